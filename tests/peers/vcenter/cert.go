package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// identity is what a listener shows of itself.
type identity struct {
	cert tls.Certificate
	// Lower-case hex.
	sha256 string
	// Colon separated upper-case hex, as vSphere writes thumbprints.
	sha1Colons   string
	sha256Colons string
}

// newIdentity makes a self-signed certificate for an address, or reads one. A real host has an RSA key; the curve is
// chosen because it is made at once.
func newIdentity(address, certFile, keyFile string) (*identity, error) {
	if certFile != "" {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, err
		}
		return describe(cert), nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	template := x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"VMware, Inc."}, CommonName: address},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IPAddresses:           []net.IP{net.ParseIP(address)},
		DNSNames:              []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return describe(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}), nil
}

func describe(cert tls.Certificate) *identity {
	der := cert.Certificate[0]
	short, long := sha1.Sum(der), sha256.Sum256(der)
	return &identity{
		cert:         cert,
		sha256:       hex.EncodeToString(long[:]),
		sha1Colons:   colons(short[:]),
		sha256Colons: colons(long[:]),
	}
}

func colons(bytes []byte) string {
	parts := make([]string, len(bytes))
	for i, b := range bytes {
		parts[i] = fmt.Sprintf("%02X", b)
	}
	return strings.Join(parts, ":")
}
