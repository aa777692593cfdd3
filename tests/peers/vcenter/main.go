// A stand-in for vCenter Server or one ESXi host, for tests on one machine.
//
// It is Debian's govmomi simulator with what that lacks: HTTPS file access that asks for a session or a one-time ticket,
// local accounts, services, lockdown, hosts with a listener and a certificate of their own, and details of disks.
// All traffic stays on the loopback interface.
//
// It is driven through its standard streams. The first line on stdin is the configuration (config.go); the answer is
// one line that tells where it listens. Each further line is a command (control.go), answered by one line. When stdin
// closes, or on SIGTERM or SIGINT, it ends. It writes no file but the access log that it is told to write.
//
// Each ESXi host listens on an address of its own in 127.64.0.0/10 at port 443, so that a client finds it as it finds a
// real one: by its management address, with nothing special. Where that can't be (not root, or port 443 is taken), the
// host listens on 127.0.0.1 at a port that the system chose, and its name and its management address are
// `127.0.0.1:PORT`.
//
// What it does NOT imitate: locks of VMFS (a command makes a file answer 500 instead), NFC and port 902, objects and
// policies of vSAN (only the UUID names of top folders), roles and inheritance of permissions (a user lacks named
// privileges everywhere), the SOAP interface of a host that vCenter manages (its listener serves /folder only), HTTP/2,
// limits on the number of sessions, changes of the inventory by others. Where the answer of a real server is not known,
// the comment says so.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// The longest line that is read from stdin, in bytes.
const longestLine = 16 << 20

// world guards everything that is told to clients: the simulator's objects and the state here. One request at a time is
// fast enough for tests, and makes their results the same every time.
var world sync.Mutex

func main() {
	log.SetFlags(0)
	log.SetOutput(os.Stderr)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		os.Exit(0)
	}()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<16), longestLine)
	if !lines.Scan() {
		fail("no configuration came")
	}
	var config Config
	if err := json.Unmarshal(lines.Bytes(), &config); err != nil {
		fail("the configuration is no good: %s", err)
	}
	site, err := newSite(&config)
	if err != nil {
		fail("%s", err)
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(site.ready()); err != nil {
		fail("%s", err)
	}
	for lines.Scan() {
		var command Command
		var answer interface{}
		err := json.Unmarshal(lines.Bytes(), &command)
		if err == nil {
			answer, err = site.obey(&command)
		}
		if err != nil {
			answer = map[string]interface{}{"error": err.Error()}
		}
		if err := out.Encode(answer); err != nil && err != io.ErrShortWrite {
			os.Exit(0)
		}
	}
}

func fail(format string, args ...interface{}) {
	fmt.Fprintf(os.Stderr, "vcenter peer: "+format+"\n", args...)
	os.Exit(1)
}
