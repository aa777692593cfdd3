package main

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Call is one SOAP call that was made.
type Call struct {
	Method string `json:"method"`
	Type   string `json:"type"`
	ID     string `json:"id"`
	User   string `json:"user"`
	// Fault that it was refused with in front of the simulator; empty if it went through.
	Fault string `json:"fault,omitempty"`
}

// The longest request, in bytes.
const longestRequest = 8 << 20

// What may be asked without a session.
var anonymous = map[string]bool{"RetrieveServiceContent": true, "Login": true}

// What a user needs for a call besides a session.
var privileges = map[string]string{
	"SearchDatastore_Task":             "Datastore.Browse",
	"SearchDatastoreSubFolders_Task":   "Datastore.Browse",
	"CreateUser":                       "Host.Local.ManageUserGroups",
	"UpdateUser":                       "Host.Local.ManageUserGroups",
	"RemoveUser":                       "Host.Local.ManageUserGroups",
	"StartService":                     "Host.Config.NetService",
	"StopService":                      "Host.Config.NetService",
	"RestartService":                   "Host.Config.NetService",
	"UpdateServicePolicy":              "Host.Config.NetService",
	"ChangeAccessMode":                 "Global.Settings",
	"RetrieveHostAccessControlEntries": "Global.Settings",
	"ChangeLockdownMode":               "Global.Settings",
	"QueryLockdownExceptions":          "Global.Settings",
	"UpdateLockdownExceptions":         "Global.Settings",
	"SetEntityPermissions":             "Authorization.ModifyPermissions",
	"RemoveEntityPermission":           "Authorization.ModifyPermissions",
}

// serveSDK stands in front of the simulator: it checks sessions, passwords and privileges, and answers what the
// simulator has not.
func (s *site) serveSDK(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, longestRequest))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	method, err := simulator.UnmarshalBody(types.TypeFunc(), body)
	if err != nil {
		fault(w, "InvalidRequest", "", err.Error())
		return
	}
	world.Lock()
	unlock := true
	defer func() {
		if unlock {
			world.Unlock()
		}
	}()
	session := s.session(r)
	call := Call{Method: method.Name, Type: method.This.Type, ID: method.This.Value}
	if session != nil {
		call.User = session.user
	}
	answered := s.answer(w, r, method, session, &call)
	s.calls = append(s.calls, call)
	if answered {
		return
	}
	if method.Name == "WaitForUpdatesEx" || method.Name == "WaitForUpdates" {
		// It waits for changes that others have to be able to make.
		unlock = false
		world.Unlock()
	}
	if session == nil {
		r.Header.Del("Cookie")
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	s.service.ServeSDK(answer, r)
	s.finish(w, r, method, answer)
}

// answer does what has to be done in front of the simulator. False if the simulator is to answer.
func (s *site) answer(w http.ResponseWriter, r *http.Request, method *simulator.Method, session *session, call *Call) bool {
	refuse := func(kind, inner, text string) bool {
		call.Fault = kind
		fault(w, kind, inner, text)
		return true
	}
	object := fmt.Sprintf(`<object type="%s">%s</object>`, html.EscapeString(method.This.Type), html.EscapeString(method.This.Value))
	if session == nil && !anonymous[method.Name] && !aboutService(method) {
		return refuse("NotAuthenticated", object+"<privilegeId>System.View</privilegeId>", "The session is not authenticated.")
	}
	if privilege := privileges[method.Name]; privilege != "" && s.lacks(session.user, privilege) {
		return refuse("NoPermission", object+"<privilegeId>"+privilege+"</privilegeId>", "Permission to perform this operation was denied.")
	}
	switch req := method.Body.(type) {
	case *types.Login:
		call.User = req.UserName
		if session != nil {
			return refuse("InvalidLogin", "", "Cannot complete login due to an incorrect user name or password.")
		}
		if !s.login(req.UserName, req.Password) {
			// Which fault a host in lockdown gives is not known.
			return refuse("InvalidLogin", "", "Cannot complete login due to an incorrect user name or password.")
		}
	case *types.AcquireGenericServiceTicket:
		return s.ticketFor(w, req, session, refuse)
	case *types.SetEntityPermissions:
		if !s.esxi {
			return false
		}
		for _, permission := range req.Permission {
			mode := types.HostAccessModeAccessReadOnly
			if permission.RoleId == -1 {
				mode = types.HostAccessModeAccessAdmin
			}
			if s.hosts[0].accounts[permission.Principal] == nil {
				return refuse("UserNotFound", "<principal>"+html.EscapeString(permission.Principal)+"</principal><unresolved>false</unresolved>", "The user or group was not found.")
			}
			if problem := s.hosts[0].grant(permission.Principal, mode); problem != nil {
				return refuse("SystemError", "<reason>"+html.EscapeString(problem.String)+"</reason>", problem.String)
			}
		}
	case *types.RemoveEntityPermission:
		if s.esxi && s.hosts[0].accounts[req.User] != nil {
			_ = s.hosts[0].grant(req.User, types.HostAccessModeAccessNone)
		}
	case *types.HasPrivilegeOnEntities:
		reply(w, "HasPrivilegeOnEntities", s.privilegesOf(session.user, req))
		return true
	}
	return false
}

// aboutService tells whether only the service itself is asked for, which needs no session.
func aboutService(method *simulator.Method) bool {
	var specs []types.PropertyFilterSpec
	switch req := method.Body.(type) {
	case *types.RetrievePropertiesEx:
		specs = req.SpecSet
	case *types.RetrieveProperties:
		specs = req.SpecSet
	}
	for _, spec := range specs {
		for _, object := range spec.ObjectSet {
			if object.Obj.Type != "ServiceInstance" || len(object.SelectSet) > 0 {
				return false
			}
		}
	}
	return len(specs) > 0
}

// ticketFor answers AcquireGenericServiceTicket. What a real server says to a URL of a host that it does not know, is
// not known.
func (s *site) ticketFor(w http.ResponseWriter, req *types.AcquireGenericServiceTicket, session *session, refuse func(string, string, string) bool) bool {
	spec, ok := req.Spec.(*types.SessionManagerHttpServiceRequestSpec)
	if !ok {
		return refuse("InvalidArgument", "<invalidProperty>spec</invalidProperty>", "A specified parameter was not correct: spec")
	}
	method := spec.Method
	if method == "" {
		method = "httpGet"
	}
	id, at, err := s.newTicket(session.user, method, spec.Url)
	if err != nil {
		return refuse("InvalidArgument", "<invalidProperty>spec.url</invalidProperty>", "A specified parameter was not correct: spec.url")
	}
	name, identity := shortAddress(s.front.address), s.front.id
	if at != nil {
		name, identity = at.name(), at.front.id
	}
	reply(w, "AcquireGenericServiceTicket", fmt.Sprintf("<returnval><id>%s</id><hostName>%s</hostName><sslThumbprint>%s</sslThumbprint>"+
		"<certThumbprintList><thumbprint>%s</thumbprint><hashAlgorithm>sha256</hashAlgorithm></certThumbprintList>"+
		"<ticketType>Session</ticketType></returnval>", id, html.EscapeString(name), identity.sha1Colons, identity.sha256Colons))
	return true
}

// privilegesOf answers HasPrivilegeOnEntities.
func (s *site) privilegesOf(user string, req *types.HasPrivilegeOnEntities) string {
	var out strings.Builder
	for _, entity := range req.Entity {
		fmt.Fprintf(&out, `<returnval><entity type="%s">%s</entity>`, html.EscapeString(entity.Type), html.EscapeString(entity.Value))
		for _, privilege := range req.PrivId {
			fmt.Fprintf(&out, "<privAvailability><privId>%s</privId><isGranted>%t</isGranted></privAvailability>",
				html.EscapeString(privilege), !s.lacks(user, privilege))
		}
		out.WriteString("</returnval>")
	}
	return out.String()
}

// finish hands the simulator's answer on, and keeps track of sessions.
func (s *site) finish(w http.ResponseWriter, r *http.Request, method *simulator.Method, answer *httptest.ResponseRecorder) {
	result := answer.Result()
	switch req := method.Body.(type) {
	case *types.Login:
		for _, cookie := range result.Cookies() {
			if cookie.Name == "vmware_soap_session" {
				s.sessions[cookie.Value] = &session{user: req.UserName, used: time.Now()}
				// As real servers write it, quotes and all.
				w.Header().Set("Set-Cookie", fmt.Sprintf(`vmware_soap_session="%s"; Path=/; HttpOnly; Secure; `, cookie.Value))
			}
		}
	case *types.Logout:
		if cookie, err := r.Cookie("vmware_soap_session"); err == nil {
			delete(s.sessions, cookie.Value)
		}
	case *types.TerminateSession:
		if result.StatusCode == http.StatusOK {
			for _, id := range req.SessionId {
				delete(s.sessions, id)
			}
		}
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(result.StatusCode)
	_, _ = w.Write(answer.Body.Bytes())
}

const (
	envelopeHead = `<?xml version="1.0" encoding="UTF-8"?>` + "\n" +
		`<soapenv:Envelope xmlns:soapenc="http://schemas.xmlsoap.org/soap/encoding/" ` +
		`xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsd="http://www.w3.org/2001/XMLSchema" ` +
		`xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">` + "\n<soapenv:Body>\n"
	envelopeTail = "\n</soapenv:Body>\n</soapenv:Envelope>"
)

// reply answers a call with the inside of its response.
func reply(w http.ResponseWriter, method, inside string) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	fmt.Fprintf(w, `%s<%sResponse xmlns="urn:vim25">%s</%sResponse>%s`, envelopeHead, method, inside, method, envelopeTail)
}

// fault refuses a call.
func fault(w http.ResponseWriter, kind, inside, text string) {
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	w.WriteHeader(http.StatusInternalServerError)
	fmt.Fprintf(w, `%s<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>%s</faultstring>`+
		`<detail><%sFault xmlns="urn:vim25" xsi:type="%s">%s</%sFault></detail></soapenv:Fault>%s`,
		envelopeHead, html.EscapeString(text), kind, kind, inside, kind, envelopeTail)
}

// serveVersions tells which versions of the interface there are.
func (s *site) serveVersions(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/xml")
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8" ?>
<namespaces version="1.0">
 <namespace>
  <name>urn:vim25</name>
  <version>%s</version>
  <priorVersions>
   <version>8.0.1.0</version>
   <version>8.0.0.1</version>
   <version>7.0.3.2</version>
   <version>7.0</version>
   <version>6.7</version>
   <version>6.5</version>
   <version>6.0</version>
   <version>5.5</version>
  </priorVersions>
 </namespace>
</namespaces>
`, s.config.APIVersion)
}
