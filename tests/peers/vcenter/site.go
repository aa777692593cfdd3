package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// site is everything that there is. Its fields are guarded by `world`.
type site struct {
	config  *Config
	esxi    bool
	front   *front
	service *simulator.Service
	users   map[string]*userState

	datacenters []*datacenter
	hosts       []*host
	vms         []*machine

	sessions   map[string]*session
	tickets    map[string]*ticket
	issued     int
	ticketLife time.Duration
	troubles   []*Trouble
	accesses   []Access
	accessLog  *os.File
	calls      []Call
	logins     []Attempt
	nextID     int
}

// userState is a user and what happened to his logins.
type userState struct {
	User
	guard
}

// session is one that is alive.
type session struct {
	user string
	used time.Time
}

// Attempt is a login that was tried.
type Attempt struct {
	// Host is empty for the SOAP interface.
	Host string `json:"host"`
	User string `json:"user"`
	OK   bool   `json:"ok"`
	// Locked is set where the user was locked out, so that even the right password would not do.
	Locked bool `json:"locked"`
}

const (
	// ESXi 8.0 locks an account for 15 minutes after 5 failures.
	failuresAllowed = 5
	lockSeconds     = 900
	// How long a ticket lives on a real server is not documented; 2 minutes are what clients have seen to suffice.
	ticketSeconds = 120
)

func newSite(config *Config) (*site, error) {
	if config.Mode != "vcenter" && config.Mode != "esxi" {
		return nil, fmt.Errorf("mode is %q, not vcenter or esxi", config.Mode)
	}
	if config.APIVersion == "" {
		config.APIVersion = "8.0.2.0"
	}
	if config.TicketSeconds == 0 {
		config.TicketSeconds = ticketSeconds
	}
	if config.LockSeconds == 0 {
		config.LockSeconds = lockSeconds
	}
	s := &site{
		config:     config,
		esxi:       config.Mode == "esxi",
		users:      map[string]*userState{},
		sessions:   map[string]*session{},
		tickets:    map[string]*ticket{},
		ticketLife: time.Duration(config.TicketSeconds) * time.Second,
		nextID:     100,
	}
	for _, user := range config.Users {
		s.users[strings.ToLower(user.Name)] = &userState{User: user}
	}
	if config.AccessLog != "" {
		file, err := os.OpenFile(config.AccessLog, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0600)
		if err != nil {
			return nil, err
		}
		s.accessLog = file
	}
	world.Lock()
	defer world.Unlock()
	if err := s.build(); err != nil {
		return nil, err
	}
	if s.esxi {
		s.front = s.hosts[0].front
		return s, nil
	}
	listen := config.Listen
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	var err error
	s.front, err = s.listen(listen, config.Cert, config.Key, nil)
	return s, err
}

// listen starts the listener of vCenter (host is nil) or of a host.
func (s *site) listen(address, cert, key string, host *host) (*front, error) {
	listener, err := listenAs(address)
	if err != nil {
		return nil, err
	}
	ip := strings.Split(listener.Addr().String(), ":")[0]
	id, err := newIdentity(ip, cert, key)
	if err != nil {
		return nil, err
	}
	return startFront(listener, id, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == folderPrefix || strings.HasPrefix(r.URL.Path, folderPrefix+"/"):
			s.serveFolder(host, w, r)
		case host != nil && !s.esxi:
			// A host has a SOAP interface of its own, which is not imitated while vCenter manages it.
			http.NotFound(w, r)
		case r.URL.Path == "/sdk" || r.URL.Path == "/sdk/":
			s.serveSDK(w, r)
		case r.URL.Path == "/sdk/vimServiceVersions.xml":
			s.serveVersions(w)
		default:
			http.NotFound(w, r)
		}
	})), nil
}

// Ready is the first line on stdout.
type Ready struct {
	Ready  bool        `json:"ready"`
	URL    string      `json:"url"`
	SHA256 string      `json:"sha256"`
	SHA1   string      `json:"sha1"`
	Hosts  []HostReady `json:"hosts"`
}

// HostReady is where a host listens.
type HostReady struct {
	Name string `json:"name"`
	// ShownName is HostSystem.name.
	ShownName string `json:"shown_name"`
	// Address is the management address, which `https://` in front makes a URL.
	Address string `json:"address"`
	SHA256  string `json:"sha256"`
	SHA1    string `json:"sha1"`
}

func (s *site) ready() *Ready {
	ready := &Ready{
		Ready:  true,
		URL:    "https://" + shortAddress(s.front.address),
		SHA256: s.front.id.sha256,
		SHA1:   s.front.id.sha1Colons,
		Hosts:  []HostReady{},
	}
	for _, h := range s.hosts {
		ready.Hosts = append(ready.Hosts, HostReady{h.config.Name, h.name(), h.address, h.front.id.sha256, h.front.id.sha1Colons})
	}
	return ready
}

// login checks a password, and counts failures: a user who is locked out is refused with the right one too. The users of
// an ESXi host are its local accounts.
func (s *site) login(name, password string) bool {
	if s.esxi {
		return s.hostLogin(s.hosts[0], "", name, password)
	}
	attempt := Attempt{User: name}
	if user := s.users[strings.ToLower(name)]; user != nil {
		attempt.OK, attempt.Locked = user.try(password, user.Password, s.config.LockSeconds)
	}
	s.logins = append(s.logins, attempt)
	return attempt.OK
}

// guard counts failures to log in.
type guard struct {
	failures    int
	lockedUntil time.Time
}

// try compares a password with the right one. It tells whether it is right and, with that, whether the user is locked out.
func (g *guard) try(given, right string, lockSeconds int) (ok, locked bool) {
	if time.Now().Before(g.lockedUntil) {
		return false, true
	}
	if right != "" && given == right {
		g.failures = 0
		return true, false
	}
	if g.failures++; g.failures >= failuresAllowed {
		g.failures = 0
		g.lockedUntil = time.Now().Add(time.Duration(lockSeconds) * time.Second)
	}
	return false, false
}

// lacks tells whether a user is known to lack a privilege. Everybody else has them all.
func (s *site) lacks(name, privilege string) bool {
	user := s.users[strings.ToLower(name)]
	if user == nil {
		return false
	}
	for _, missing := range user.Missing {
		if missing == privilege {
			return true
		}
	}
	return false
}

// session of a request, if it is alive.
func (s *site) session(r *http.Request) *session {
	cookie, err := r.Cookie("vmware_soap_session")
	if err != nil {
		return nil
	}
	session := s.sessions[cookie.Value]
	if session == nil {
		return nil
	}
	now := time.Now()
	if s.config.IdleSeconds > 0 && now.Sub(session.used) > time.Duration(s.config.IdleSeconds)*time.Second {
		delete(s.sessions, cookie.Value)
		return nil
	}
	session.used = now
	return session
}

func (s *site) host(name string) *host {
	for _, h := range s.hosts {
		if h.config.Name == name {
			return h
		}
	}
	return nil
}

// findDatastore by its name, in a datacenter at vCenter. A host knows those it mounts, and no datacenter but its own.
func (s *site) findDatastore(host *host, dcPath, name string) *datastore {
	for _, dc := range s.datacenters {
		switch {
		case host != nil && dc != host.dc,
			host != nil && dcPath != "" && dcPath != "ha-datacenter",
			host == nil && dcPath != "" && strings.Trim(dcPath, "/") != dc.path(),
			host == nil && dcPath == "" && len(s.datacenters) > 1:
			continue
		}
		for _, store := range dc.stores {
			if store.mo.Name == name {
				return store
			}
		}
	}
	return nil
}

// newID gives a managed object's id as real servers write them.
func (s *site) newID(kind, prefix string) types.ManagedObjectReference {
	s.nextID++
	return types.ManagedObjectReference{Type: kind, Value: fmt.Sprintf("%s-%d", prefix, s.nextID)}
}

func randomID() string {
	bytes := make([]byte, 16)
	_, _ = rand.Read(bytes)
	text := hex.EncodeToString(bytes)
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}
