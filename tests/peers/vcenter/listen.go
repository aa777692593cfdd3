package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net"
	"net/http"
	"sync"
	"time"
)

// front is one HTTPS listener. It can be taken away and brought back at the same address.
type front struct {
	id      *identity
	handler http.Handler

	m       sync.Mutex
	address string
	server  *http.Server
}

// listenAs binds an address. An empty one means an own loopback address at port 443, or else a free port.
func listenAs(address string) (net.Listener, error) {
	if address != "" {
		return net.Listen("tcp", address)
	}
	dice := rand.New(rand.NewSource(time.Now().UnixNano()))
	for try := 0; try < 20; try++ {
		own := fmt.Sprintf("127.%d.%d.%d:443", 64+dice.Intn(64), dice.Intn(256), 1+dice.Intn(254))
		if listener, err := net.Listen("tcp", own); err == nil {
			return listener, nil
		}
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// address as clients write it: without the port if that is HTTPS's own.
func shortAddress(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err == nil && port == "443" {
		return host
	}
	return address
}

func startFront(listener net.Listener, id *identity, handler http.Handler) *front {
	f := &front{id: id, handler: handler, address: listener.Addr().String()}
	f.serve(listener)
	return f
}

func (f *front) serve(listener net.Listener) {
	server := &http.Server{Handler: f.handler, ErrorLog: log.New(io.Discard, "", 0)}
	// No HTTP/2: real hosts of these releases speak HTTP/1.1.
	server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	config := &tls.Config{Certificates: []tls.Certificate{f.id.cert}, MinVersion: tls.VersionTLS12}
	f.server = server
	go func() { _ = server.Serve(tls.NewListener(listener, config)) }()
}

// down ends the listener and every connection.
func (f *front) down() {
	f.m.Lock()
	defer f.m.Unlock()
	if f.server != nil {
		_ = f.server.Close()
		f.server = nil
	}
}

// up listens again where it did before.
func (f *front) up() error {
	f.m.Lock()
	defer f.m.Unlock()
	if f.server != nil {
		return nil
	}
	listener, err := net.Listen("tcp", f.address)
	if err != nil {
		return err
	}
	f.serve(listener)
	return nil
}
