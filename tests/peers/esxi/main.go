// A stand-in for the SSH side of an ESXi host, for tests on one machine, run as root.
//
// It is Debian's OpenSSH server with the algorithms and settings of ESXi 8.0.2, in a mount and a process namespace of its
// own: accounts come from libnss-wrapper and libpam-wrapper, sessions are in a tree with BusyBox, /vmfs/volumes and a
// vmkfstools. No file of the machine is changed, and nothing is left when it ends: with the first process of the namespace
// every other one ends, and with the last one every mount goes.
//
// It is driven through its standard streams as the stand-in for vSphere is: the first line on stdin is the configuration
// (Config), the answer tells where it listens; each further line is a Command. When stdin closes, it ends. It is told
// of accounts and of the SSH service through a Unix socket, the hook of the stand-in for vSphere.
//
// Called with one of these as its first argument or under such a name, the program is something else: `inside` is the
// first process of the namespace, `check` looks at a password for PAM, `login-shell` and `vmkfstools` are in the tree.
//
// What it does NOT imitate: FIPS mode, VMkernel's own file systems and locks (a switch makes vmkfstools refuse),
// the ends of idle sessions, esxcli and vim-cmd, the sandbox's memory limit, execInstalledOnly, and the exact words of
// vmkfstools -t0, which are not known. The subsystem sftp is OpenSSH's own, not the host's program. Every account has
// the rights of root here, as administrators of a host have.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

func main() {
	applet := filepath.Base(os.Args[0])
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "inside", "check":
			applet = os.Args[1]
		}
	}
	switch applet {
	case "inside":
		inside()
	case "check":
		check(os.Args[2])
	case "vmkfstools":
		os.Exit(vmkfstools(os.Args[1:]))
	case "login-shell", "-login-shell":
		loginShell()
	default:
		outside()
	}
}

// outside starts the namespace, and takes it away at the end.
func outside() {
	// The kernel ends the child when the thread that started it ends.
	runtime.LockOSThread()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	self, err := os.Executable()
	if err != nil {
		fail("%s", err)
	}
	child := exec.Command(self, "inside")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := child.Start(); err != nil {
		fail("namespaces: %s", err)
	}
	go func() {
		<-signals
		_ = child.Process.Kill()
	}()
	if err := child.Wait(); err != nil && child.ProcessState.ExitCode() > 0 {
		os.Exit(child.ProcessState.ExitCode())
	}
}

// Config is the first line on stdin.
type Config struct {
	// Dir is an empty folder for its files; who made it removes it.
	Dir string `json:"dir"`
	// RootPassword is that of its root account.
	RootPassword string `json:"root_password"`
	// Stores are in /vmfs/volumes.
	Stores []Store `json:"stores"`
	// SFTP offers the subsystem.
	SFTP bool `json:"sftp"`
	// SCP has the program in the tree.
	SCP bool `json:"scp"`
	// Vmkfstools is how that behaves: `map`, `absent`, `garbage`, `lies`, `short` or `locked`.
	Vmkfstools string `json:"vmkfstools"`
	// MaxSessions is how many channels a connection may have at a time; 1, as on hardened hosts, if it is 0.
	MaxSessions int `json:"max_sessions"`
	// ListensAfter is how many milliseconds pass between starting the SSH service and its first connection.
	ListensAfter int `json:"listens_after_ms"`
	// KnowsAfter is how many of its first logins a new account is refused.
	KnowsAfter int `json:"knows_after_logins"`
	// Without leaves these programs out of the tree.
	Without []string `json:"without"`
}

// Store is a datastore.
type Store struct {
	Name string `json:"name"`
	UUID string `json:"uuid"`
	Dir  string `json:"dir"`
}

// Ready is the first line on stdout.
type Ready struct {
	Ready bool `json:"ready"`
	// Address is a loopback address of its own, at which port 443 is free for the host's HTTPS.
	Address string `json:"address"`
	// Port is that of SSH, as long as the service runs.
	Port int `json:"port"`
	// HostKeys are lines as known_hosts has them after the name.
	HostKeys []string `json:"host_keys"`
	// Hook is the Unix socket.
	Hook string `json:"hook"`
}

// inside is the first process of the namespaces.
func inside() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<16), 1<<20)
	if !lines.Scan() {
		fail("no configuration came")
	}
	var config Config
	if err := json.Unmarshal(lines.Bytes(), &config); err != nil {
		fail("the configuration is no good: %s", err)
	}
	h, err := newHost(&config)
	if err != nil {
		fail("%s", err)
	}
	out := json.NewEncoder(os.Stdout)
	_ = out.Encode(h.ready())
	for lines.Scan() {
		var command Command
		var answer interface{}
		err := json.Unmarshal(lines.Bytes(), &command)
		if err == nil {
			answer, err = h.obey(&command)
		}
		if err != nil {
			answer = map[string]string{"error": err.Error()}
		}
		if err := out.Encode(answer); err != nil {
			break
		}
	}
	// All other processes of the namespace end with this one.
	os.Exit(0)
}

// check hands a password on to the host, which knows whom it may let in. PAM ends it with a NUL.
func check(socket string) {
	password, err := io.ReadAll(io.LimitReader(os.Stdin, 4096))
	if err != nil {
		os.Exit(1)
	}
	for len(password) > 0 && password[len(password)-1] == 0 {
		password = password[:len(password)-1]
	}
	connection, err := net.DialTimeout("unix", socket, 10*time.Second)
	if err != nil {
		os.Exit(1)
	}
	_ = connection.SetDeadline(time.Now().Add(30 * time.Second))
	if err := json.NewEncoder(connection).Encode(Ask{User: os.Getenv("PAM_USER"), Password: string(password)}); err != nil {
		os.Exit(1)
	}
	var verdict Verdict
	if err := json.NewDecoder(connection).Decode(&verdict); err != nil || !verdict.OK {
		os.Exit(1)
	}
}

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "esxi peer: "+format+"\n", args...)
	os.Exit(1)
}
