package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// host is all that there is. Its fields are guarded by m.
type host struct {
	config  *Config
	address string
	port    int
	keys    []string

	m          sync.Mutex
	accounts   map[string]*account
	order      []string
	locked     bool
	exceptions []string
	listener   int
	ended      map[int]bool
	logins     []Login
}

type account struct {
	password string
	shell    bool
	admin    bool
	failures int
	until    time.Time
	// strange is how many logins are refused before the host knows the account.
	strange int
}

// Login is one that was tried.
type Login struct {
	User   string `json:"user"`
	OK     bool   `json:"ok"`
	Locked bool   `json:"locked"`
}

const (
	// ESXi 8.0 locks an account for 15 minutes after 5 failures.
	failuresAllowed = 5
	lockTime        = 15 * time.Minute
	// How long the server may take to listen.
	startTime = 20 * time.Second
)

func newHost(config *Config) (*host, error) {
	if config.Vmkfstools == "" {
		config.Vmkfstools = "map"
	}
	if config.MaxSessions == 0 {
		config.MaxSessions = 1
	}
	h := &host{config: config, accounts: map[string]*account{}, ended: map[int]bool{}}
	h.put("root", &account{password: config.RootPassword, shell: true, admin: true})
	var err error
	if h.address, h.port, err = ownAddress(); err != nil {
		return nil, err
	}
	if err := buildTree(config); err != nil {
		return nil, err
	}
	if h.keys, err = makeKeys(config.Dir); err != nil {
		return nil, err
	}
	if err := h.writeSettings(); err != nil {
		return nil, err
	}
	if err := h.writeAccounts(); err != nil {
		return nil, err
	}
	go h.reap()
	for name, serve := range map[string]func(net.Conn){"hook": h.hear, "check": h.judge} {
		listener, err := net.Listen("unix", filepath.Join(config.Dir, name))
		if err != nil {
			return nil, err
		}
		serve := serve
		go func() {
			for {
				connection, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					defer connection.Close()
					_ = connection.SetDeadline(time.Now().Add(time.Minute))
					serve(connection)
				}()
			}
		}()
	}
	return h, nil
}

func (h *host) ready() *Ready {
	return &Ready{Ready: true, Address: h.address, Port: h.port, HostKeys: h.keys, Hook: filepath.Join(h.config.Dir, "hook")}
}

// put adds an account, or changes it. Accounts keep their order: the first of an id is the one that is shown.
func (h *host) put(name string, a *account) {
	if h.accounts[name] == nil {
		h.order = append(h.order, name)
	}
	h.accounts[name] = a
}

func (h *host) remove(name string) {
	delete(h.accounts, name)
	for i, each := range h.order {
		if each == name {
			h.order = append(h.order[:i:i], h.order[i+1:]...)
			return
		}
	}
}

// ownAddress finds a loopback address with a free port 443, and a free port for SSH at it. Somebody else might take them
// before they are used, but hardly there.
func ownAddress() (string, int, error) {
	dice := rand.New(rand.NewSource(time.Now().UnixNano()))
	for try := 0; try < 50; try++ {
		address := fmt.Sprintf("127.%d.%d.%d", 64+dice.Intn(64), dice.Intn(256), 1+dice.Intn(254))
		https, err := net.Listen("tcp", address+":443")
		if err != nil {
			continue
		}
		_ = https.Close()
		ssh, err := net.Listen("tcp", address+":0")
		if err != nil {
			continue
		}
		port := ssh.Addr().(*net.TCPAddr).Port
		_ = ssh.Close()
		return address, port, nil
	}
	return "", 0, fmt.Errorf("no loopback address has a free port 443")
}

// reap waits for every process whose parent has ended, as the first process of a namespace has to.
func (h *host) reap() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD)
	for range signals {
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if err != nil || pid <= 0 {
				break
			}
			h.m.Lock()
			if pid == h.listener {
				h.listener = 0
			}
			h.m.Unlock()
		}
	}
}

// start begins to listen. The lock is held.
func (h *host) start() error {
	if h.listener != 0 {
		return nil
	}
	log, err := os.OpenFile(filepath.Join(h.config.Dir, "sshd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0600)
	if err != nil {
		return err
	}
	defer log.Close()
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd"
	}
	process, err := os.StartProcess(sshd, []string{sshd, "-D", "-e", "-f", filepath.Join(h.config.Dir, "sshd_config")}, &os.ProcAttr{
		Dir: "/",
		Env: []string{
			"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
			"LD_PRELOAD=libnss_wrapper.so libpam_wrapper.so",
			"NSS_WRAPPER_PASSWD=" + filepath.Join(h.config.Dir, "passwd"),
			"NSS_WRAPPER_GROUP=" + filepath.Join(h.config.Dir, "group"),
			"PAM_WRAPPER=1",
			"PAM_WRAPPER_SERVICE_DIR=" + filepath.Join(h.config.Dir, "pam"),
		},
		Files: []*os.File{nil, log, log},
	})
	if err != nil {
		return err
	}
	h.listener = process.Pid
	deadline := time.Now().Add(startTime)
	for {
		connection, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", h.address, h.port), time.Second)
		if err == nil {
			_ = connection.Close()
			return nil
		}
		// The one who reaps needs the lock to tell that it has ended.
		h.m.Unlock()
		time.Sleep(5 * time.Millisecond)
		h.m.Lock()
		if h.listener == 0 || time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(h.config.Dir, "sshd.log"))
			return fmt.Errorf("sshd does not listen: %s", text)
		}
	}
}

// stop ends the listener. Sessions live on. The lock is held.
func (h *host) stop() error {
	if h.listener == 0 {
		return nil
	}
	if err := syscall.Kill(h.listener, syscall.SIGTERM); err != nil {
		return err
	}
	deadline := time.Now().Add(startTime)
	for h.listener != 0 && time.Now().Before(deadline) {
		h.m.Unlock()
		time.Sleep(2 * time.Millisecond)
		h.m.Lock()
	}
	if h.listener != 0 {
		return fmt.Errorf("sshd does not end")
	}
	return nil
}

// Event is what the stand-in for vSphere tells: its hosts.go.
type Event struct {
	Kind       string   `json:"kind"`
	ID         string   `json:"id"`
	Password   string   `json:"password"`
	Shell      bool     `json:"shell"`
	Admin      bool     `json:"admin"`
	Mode       string   `json:"mode"`
	Exceptions []string `json:"exceptions"`
}

// hear does what an event says, and answers when it is done.
func (h *host) hear(connection net.Conn) {
	var answer struct {
		Error string `json:"error,omitempty"`
	}
	line, err := bufio.NewReader(connection).ReadBytes('\n')
	var event Event
	if err == nil {
		err = json.Unmarshal(line, &event)
	}
	if err == nil {
		err = h.happen(&event)
	}
	if err != nil {
		answer.Error = err.Error()
	}
	_ = json.NewEncoder(connection).Encode(answer)
}

func (h *host) happen(event *Event) error {
	h.m.Lock()
	defer h.m.Unlock()
	switch event.Kind {
	case "CreateUser", "UpdateUser":
		h.put(event.ID, &account{password: event.Password, shell: event.Shell, admin: event.Admin, strange: h.config.KnowsAfter})
		return h.writeAccounts()
	case "RemoveUser":
		h.remove(event.ID)
		return h.writeAccounts()
	case "Access":
		if h.accounts[event.ID] == nil {
			return fmt.Errorf("there is no account %q", event.ID)
		}
		h.accounts[event.ID].admin = event.Admin
		return nil
	case "StartService", "StopService":
		if event.ID != "TSM-SSH" {
			return nil
		}
		if event.Kind == "StartService" {
			if h.config.ListensAfter > 0 {
				time.AfterFunc(time.Duration(h.config.ListensAfter)*time.Millisecond, func() {
					h.m.Lock()
					defer h.m.Unlock()
					_ = h.start()
				})
				return nil
			}
			return h.start()
		}
		return h.stop()
	case "Lockdown":
		h.locked, h.exceptions = event.Mode != "lockdownDisabled", event.Exceptions
		return nil
	}
	return fmt.Errorf("what is %q?", event.Kind)
}

// Ask is what `check` wants to know.
type Ask struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// Verdict is the answer.
type Verdict struct {
	OK bool `json:"ok"`
}

// judge tells whether somebody is let in.
func (h *host) judge(connection net.Conn) {
	var ask Ask
	if err := json.NewDecoder(connection).Decode(&ask); err != nil {
		return
	}
	_ = json.NewEncoder(connection).Encode(Verdict{OK: h.admits(ask)})
}

// admits looks at the password, the role and lockdown, and counts failures.
func (h *host) admits(ask Ask) bool {
	h.m.Lock()
	defer h.m.Unlock()
	login := Login{User: ask.User}
	if known := h.accounts[ask.User]; known != nil {
		login.Locked = time.Now().Before(known.until)
		right := known.password != "" && known.password == ask.Password
		switch {
		case login.Locked:
		case known.strange > 0:
			known.strange--
		case !right:
			if known.failures++; known.failures >= failuresAllowed {
				known.failures, known.until = 0, time.Now().Add(lockTime)
			}
		default:
			known.failures = 0
			login.OK = known.shell && known.admin && (!h.locked || contains(h.exceptions, ask.User))
		}
	}
	h.logins = append(h.logins, login)
	return login.OK
}

// Command is a line on stdin.
type Command struct {
	Do string `json:"do"`
	// On or off, for `service`.
	On bool `json:"on"`
	// Mode, for `vmkfstools`.
	Mode string `json:"mode"`
}

// obey does what a command says: `service` (on), `vmkfstools` (mode), `cut` ends every connection, `told` gives what
// happened so far, `forget` forgets it.
func (h *host) obey(c *Command) (interface{}, error) {
	h.m.Lock()
	defer h.m.Unlock()
	done := map[string]bool{"ok": true}
	switch c.Do {
	case "service":
		if c.On {
			return done, h.start()
		}
		return done, h.stop()
	case "vmkfstools":
		return done, setVmkfstools(c.Mode)
	case "cut":
		running := h.listener != 0
		// From the first process of a namespace, this is all others in it.
		_ = syscall.Kill(-1, syscall.SIGKILL)
		deadline := time.Now().Add(startTime)
		for h.listener != 0 && time.Now().Before(deadline) {
			h.m.Unlock()
			time.Sleep(2 * time.Millisecond)
			h.m.Lock()
		}
		if running {
			return done, h.start()
		}
		return done, nil
	case "told":
		text, _ := os.ReadFile(filepath.Join(tree, commandLog))
		commands := []string{}
		for _, line := range strings.Split(string(text), "\n") {
			var command string
			if json.Unmarshal([]byte(line), &command) == nil {
				commands = append(commands, command)
			}
		}
		log, _ := os.ReadFile(filepath.Join(h.config.Dir, "sshd.log"))
		logins := h.logins
		if logins == nil {
			logins = []Login{}
		}
		return map[string]interface{}{
			"commands": commands, "logins": logins, "accounts": h.order, "listens": h.listener != 0, "log": string(log),
		}, nil
	case "forget":
		h.logins = nil
		return done, os.Truncate(filepath.Join(tree, commandLog), 0)
	}
	return nil, fmt.Errorf("there is no command %q", c.Do)
}

func contains(list []string, text string) bool {
	for _, each := range list {
		if each == text {
			return true
		}
	}
	return false
}
