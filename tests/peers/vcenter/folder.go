package main

import (
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"
)

const folderPrefix = "/folder"

// Access is what is known of one request of /folder.
type Access struct {
	// Host is empty for vCenter's own listener.
	Host      string `json:"host"`
	Method    string `json:"method"`
	Path      string `json:"path"`
	Datastore string `json:"datastore"`
	DcPath    string `json:"dc_path"`
	Range     string `json:"range"`
	// Auth is `ticket`, `session`, `basic` or `none`: what the request was let in by, or refused with.
	Auth   string `json:"auth"`
	Ticket string `json:"ticket"`
	User   string `json:"user"`
	Status int    `json:"status"`
	Bytes  int64  `json:"bytes"`
}

// Trouble makes requests of a file go wrong.
type Trouble struct {
	// Host that it is at; empty for every one, `vcenter` for vCenter's own listener.
	Host      string `json:"host"`
	Datastore string `json:"datastore"`
	// Path of the file on the datastore.
	Path string `json:"path"`
	// Status to answer instead of the file, if it is not 0: 500 is what a locked file gives.
	Status int `json:"status"`
	// CutAfter ends the connection after so many bytes of the body, if it is not 0.
	CutAfter int64 `json:"cut_after"`
	// BytesPerSecond slows the body down, if it is not 0.
	BytesPerSecond int64 `json:"bytes_per_second"`
	// Times it happens; 0 is always.
	Times int `json:"times"`

	happened int
}

// meter counts what is sent, and cuts or slows it down.
type meter struct {
	http.ResponseWriter
	status int
	bytes  int64
	cut    int64
	rate   int64
}

func (m *meter) WriteHeader(status int) {
	m.status = status
	m.ResponseWriter.WriteHeader(status)
}

func (m *meter) Write(data []byte) (int, error) {
	if m.status == 0 {
		m.status = http.StatusOK
	}
	if m.cut > 0 && m.bytes+int64(len(data)) > m.cut {
		n, _ := m.ResponseWriter.Write(data[:m.cut-m.bytes])
		m.bytes += int64(n)
		if flusher, ok := m.ResponseWriter.(http.Flusher); ok {
			flusher.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	n, err := m.ResponseWriter.Write(data)
	m.bytes += int64(n)
	if m.rate > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(m.rate))
	}
	return n, err
}

// serveFolder answers a request of /folder at vCenter (host is nil) or at a host.
func (s *site) serveFolder(host *host, w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	access := Access{
		Method:    r.Method,
		Path:      strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, folderPrefix), "/"),
		Datastore: query.Get("dsName"),
		DcPath:    query.Get("dcPath"),
		Range:     r.Header.Get("Range"),
	}
	if host != nil {
		access.Host = host.config.Name
	}
	meter := &meter{ResponseWriter: w}
	defer func() {
		access.Status, access.Bytes = meter.status, meter.bytes
		s.record(access)
	}()
	file, status := s.open(host, r, &access, meter)
	if status != 0 {
		if status == http.StatusUnauthorized {
			meter.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
		}
		meter.WriteHeader(status)
		return
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		meter.WriteHeader(http.StatusInternalServerError)
	case info.IsDir():
		list(meter, r, file)
	default:
		meter.Header().Set("Content-Type", "application/octet-stream")
		// No modification time: a real server sends no Last-Modified with HEAD (whether with GET is not known).
		http.ServeContent(meter, r, "", time.Time{}, file)
	}
}

// open checks who asks for what, and opens it; else it gives the status to answer.
func (s *site) open(host *host, r *http.Request, access *Access, meter *meter) (*os.File, int) {
	world.Lock()
	defer world.Unlock()
	user, ok := s.authenticate(host, r, access)
	if !ok {
		return nil, http.StatusUnauthorized
	}
	access.User = user
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		// A real server would write. Nothing here must change a datastore, so it shows as an error in the log.
		return nil, http.StatusMethodNotAllowed
	}
	for _, privilege := range []string{"Datastore.Browse", "Datastore.FileManagement"} {
		if s.lacks(user, privilege) {
			return nil, http.StatusForbidden
		}
	}
	store := s.findDatastore(host, access.DcPath, access.Datastore)
	if store == nil {
		return nil, http.StatusNotFound
	}
	if !store.mo.Summary.Accessible || (host != nil && !store.mountedBy(host)) {
		return nil, http.StatusNotFound
	}
	at := "vcenter"
	if host != nil {
		at = host.config.Name
	}
	for _, trouble := range s.troubles {
		hit := (trouble.Host == "" || trouble.Host == at) && trouble.Datastore == access.Datastore &&
			trouble.Path == access.Path && (trouble.Times == 0 || trouble.happened < trouble.Times)
		if !hit {
			continue
		}
		trouble.happened++
		if trouble.Status != 0 {
			return nil, trouble.Status
		}
		meter.cut, meter.rate = trouble.CutAfter, trouble.BytesPerSecond
	}
	real, ok := store.resolve(access.Path)
	if !ok {
		return nil, http.StatusNotFound
	}
	file, err := os.Open(real)
	switch {
	case os.IsNotExist(err):
		return nil, http.StatusNotFound
	case err != nil:
		return nil, http.StatusInternalServerError
	}
	return file, 0
}

// authenticate tells who asks. Through vCenter: a session or a ticket. At a host: a ticket, or its own accounts by basic
// authentication; its own session too where it is not managed.
func (s *site) authenticate(host *host, r *http.Request, access *Access) (string, bool) {
	if cookie, err := r.Cookie("vmware_cgi_ticket"); err == nil {
		access.Auth, access.Ticket = "ticket", cookie.Value
		return s.useTicket(cookie.Value, host, r)
	}
	if host == nil || s.esxi {
		if session := s.session(r); session != nil {
			access.Auth = "session"
			return session.user, true
		}
	}
	if name, password, ok := r.BasicAuth(); ok {
		access.Auth = "basic"
		access.User = name
		if host == nil {
			return "", false
		}
		return name, s.hostLogin(host, host.config.Name, name, password)
	}
	access.Auth = "none"
	return "", false
}

// ticket lets one request in, once.
type ticket struct {
	method, path, dsName, dcPath string
	host                         *host
	user                         string
	until                        time.Time
}

// newTicket binds a ticket to what the URL names. The host is the one that has the URL's address.
func (s *site) newTicket(user, method, address string) (string, *host, error) {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Scheme != "https" || !strings.HasPrefix(parsed.Path, folderPrefix+"/") {
		return "", nil, fmt.Errorf("no ticket for this URL")
	}
	var at *host
	if !strings.EqualFold(parsed.Host, shortAddress(s.front.address)) && parsed.Host != s.front.address || s.esxi {
		for _, h := range s.hosts {
			if parsed.Host == h.address || parsed.Host == h.front.address || parsed.Host == h.name() {
				at = h
			}
		}
		if at == nil {
			return "", nil, fmt.Errorf("no host has the URL's address")
		}
	}
	id := randomID()
	query := parsed.Query()
	s.tickets[id] = &ticket{
		method: strings.ToUpper(strings.TrimPrefix(method, "http")),
		path:   parsed.Path,
		dsName: query.Get("dsName"),
		dcPath: query.Get("dcPath"),
		host:   at,
		user:   user,
		until:  time.Now().Add(s.ticketLife),
	}
	s.issued++
	return id, at, nil
}

// useTicket lets the request in that the ticket was made for. One that it does not fit leaves it unused (whether a real
// server does so is not known).
func (s *site) useTicket(id string, host *host, r *http.Request) (string, bool) {
	ticket := s.tickets[id]
	query := r.URL.Query()
	if ticket == nil || ticket.host != host || ticket.method != r.Method || ticket.path != r.URL.Path ||
		ticket.dsName != query.Get("dsName") || ticket.dcPath != query.Get("dcPath") {
		return "", false
	}
	delete(s.tickets, id)
	return ticket.user, time.Now().Before(ticket.until)
}

// record keeps what happened, and writes it to the access log.
func (s *site) record(access Access) {
	world.Lock()
	defer world.Unlock()
	s.accesses = append(s.accesses, access)
	if s.accessLog != nil {
		if line, err := json.Marshal(access); err == nil {
			_, _ = s.accessLog.Write(append(line, '\n'))
		}
	}
}

// list is a page with what is in a folder. Its layout is not that of a real server.
func list(w http.ResponseWriter, r *http.Request, folder *os.File) {
	entries, err := folder.Readdir(-1)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprintf(w, "<html><head><title>Index of %s</title></head><body>\n", html.EscapeString(path.Base(r.URL.Path)))
	for _, entry := range entries {
		fmt.Fprintf(w, "<a href=\"%s\">%s</a>\n", url.PathEscape(entry.Name()), html.EscapeString(entry.Name()))
	}
	fmt.Fprint(w, "</body></html>\n")
}
