package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// Settings as a real ESXi 8.0.2 (build 22380479) shows them: no curve25519, no ed25519, no method `password`. Real hosts
// set no MaxSessions, so that it is 10; hardened ones set 1.
const settings = `
Port %d
ListenAddress %s
HostKey %s/host_ecdsa
HostKey %s/host_rsa
Ciphers aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes256-ctr,aes192-ctr,aes128-ctr
KexAlgorithms ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,diffie-hellman-group-exchange-sha256,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512,diffie-hellman-group14-sha256
MACs hmac-sha2-256,hmac-sha2-512
HostKeyAlgorithms ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-256,rsa-sha2-512
PubkeyAcceptedAlgorithms ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-256,rsa-sha2-512
PasswordAuthentication no
KbdInteractiveAuthentication yes
PubkeyAuthentication yes
UsePAM yes
PermitRootLogin yes
Compression no
RekeyLimit 1G 1H
ClientAliveInterval 200
ClientAliveCountMax 3
MaxStartups 10:30:100
MaxSessions %d
AllowTcpForwarding no
AllowAgentForwarding no
X11Forwarding no
PermitTunnel no
UseDNS no
PrintMotd no
PidFile none
Banner %s/issue
AuthorizedKeysFile %s/keys-%%u/authorized_keys
ChrootDirectory %s
LogLevel INFO
`

// writeSettings writes all that does not change while it runs.
func (h *host) writeSettings() error {
	dir := h.config.Dir
	text := fmt.Sprintf(settings, h.port, h.address, dir, dir, h.config.MaxSessions, dir, dir, tree)
	if h.config.SFTP {
		text += "Subsystem sftp internal-sftp -f LOCAL5 -l INFO\n"
	}
	self := filepath.Join(dir, ownProgram)
	pamExec, err := findModule("pam_exec.so")
	if err != nil {
		return err
	}
	permit, err := findModule("pam_permit.so")
	if err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "pam"), 0755); err != nil {
		return err
	}
	service := fmt.Sprintf("auth required %s expose_authtok quiet %s check %s\n", pamExec, self, filepath.Join(dir, "check"))
	// The first one has no say about credentials, so somebody else has to.
	service += fmt.Sprintf("auth required %s\naccount required %s\nsession required %s\n", permit, permit, permit)
	for name, text := range map[string]string{
		"sshd_config": text,
		"pam/sshd":    service,
		"issue":       "The time and date of this login have been sent to the system logs.\n",
		"group":       "root:x:0:\nnogroup:x:65534:\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0600); err != nil {
			return err
		}
	}
	return nil
}

// writeAccounts tells the server who there is. It is read anew for each connection.
func (h *host) writeAccounts() error {
	var text strings.Builder
	for _, name := range h.order {
		fmt.Fprintf(&text, "%s:x:0:0:%s:/:/bin/login-shell\n", name, name)
	}
	// The server gives up its rights to this one before it knows who is there.
	text.WriteString("sshd:x:65534:65534::/run/sshd:/usr/sbin/nologin\n")
	path := filepath.Join(h.config.Dir, "passwd")
	if err := os.WriteFile(path+".new", []byte(text.String()), 0644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// makeKeys makes the host's keys and gives their public halves.
func makeKeys(dir string) ([]string, error) {
	var lines []string
	for _, kind := range [][]string{{"ecdsa", "256"}, {"rsa", "2048"}} {
		path := filepath.Join(dir, "host_"+kind[0])
		made := exec.Command("ssh-keygen", "-q", "-N", "", "-C", "", "-t", kind[0], "-b", kind[1], "-f", path)
		if out, err := made.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
		public, err := os.ReadFile(path + ".pub")
		if err != nil {
			return nil, err
		}
		lines = append(lines, strings.TrimSpace(string(public)))
	}
	return lines, nil
}

var odd = regexp.MustCompile(`[^A-Za-z0-9._/-]`)

// findModule finds a PAM module where distributions put them.
func findModule(name string) (string, error) {
	for _, pattern := range []string{"/usr/lib/*/security/", "/lib/*/security/", "/usr/lib/security/", "/usr/lib64/security/"} {
		found, _ := filepath.Glob(pattern + name)
		if len(found) > 0 && !odd.MatchString(found[0]) {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("the PAM module %s is not installed", name)
}
