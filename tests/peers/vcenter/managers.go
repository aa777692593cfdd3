package main

import (
	"sort"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

const sshService = "TSM-SSH"

// serviceSystem starts and stops services of a host. Starting one that runs does nothing, as far as is known.
type serviceSystem struct {
	mo.HostServiceSystem
	host *host
}

func (s *serviceSystem) find(key string) *types.HostService {
	for i := range s.ServiceInfo.Service {
		if s.ServiceInfo.Service[i].Key == key {
			return &s.ServiceInfo.Service[i]
		}
	}
	return nil
}

// turn starts or stops a service; nil if that is done.
func (s *serviceSystem) turn(key string, on bool) *soap.Fault {
	service := s.find(key)
	if service == nil {
		return simulator.Fault("The object or item referred to could not be found.", &types.NotFound{})
	}
	if service.Running == on {
		return nil
	}
	kind := "StopService"
	if on {
		kind = "StartService"
	}
	if err := s.host.tell(Event{Kind: kind, ID: key}); err != nil {
		return simulator.Fault("An error occurred during host configuration: "+err.Error(), &types.HostConfigFault{})
	}
	service.Running = on
	simulator.Map.Update(s, []types.PropertyChange{{Name: "serviceInfo.service", Val: s.ServiceInfo.Service}})
	return nil
}

// StartService starts one.
func (s *serviceSystem) StartService(req *types.StartService) soap.HasFault {
	if fault := s.turn(req.Id, true); fault != nil {
		return &methods.StartServiceBody{Fault_: fault}
	}
	return &methods.StartServiceBody{Res: &types.StartServiceResponse{}}
}

// StopService stops one.
func (s *serviceSystem) StopService(req *types.StopService) soap.HasFault {
	if fault := s.turn(req.Id, false); fault != nil {
		return &methods.StopServiceBody{Fault_: fault}
	}
	return &methods.StopServiceBody{Res: &types.StopServiceResponse{}}
}

// RestartService stops one and starts it.
func (s *serviceSystem) RestartService(req *types.RestartService) soap.HasFault {
	fault := s.turn(req.Id, false)
	if fault == nil {
		fault = s.turn(req.Id, true)
	}
	if fault != nil {
		return &methods.RestartServiceBody{Fault_: fault}
	}
	return &methods.RestartServiceBody{Res: &types.RestartServiceResponse{}}
}

// UpdateServicePolicy sets whether one starts with the host.
func (s *serviceSystem) UpdateServicePolicy(req *types.UpdateServicePolicy) soap.HasFault {
	service := s.find(req.Id)
	if service == nil {
		return &methods.UpdateServicePolicyBody{Fault_: simulator.Fault("", &types.NotFound{})}
	}
	service.Policy = req.Policy
	return &methods.UpdateServicePolicyBody{Res: &types.UpdateServicePolicyResponse{}}
}

// RefreshServices does nothing: what is told is always fresh.
func (s *serviceSystem) RefreshServices(*types.RefreshServices) soap.HasFault {
	return &methods.RefreshServicesBody{Res: &types.RefreshServicesResponse{}}
}

// accountManager keeps local accounts of a host.
type accountManager struct {
	mo.HostLocalAccountManager
	site *site
	host *host
}

// What a host says to a password that its rules refuse.
const refusedPassword = "A general system error occurred: passwd: Authentication token manipulation error"

func weak() *soap.Fault {
	return simulator.Fault(refusedPassword, &types.SystemError{Reason: "passwd: Authentication token manipulation error"})
}

func broken(err error) *soap.Fault {
	return simulator.Fault("A general system error occurred: "+err.Error(), &types.SystemError{Reason: err.Error()})
}

// posix takes the fields of an account that were given.
func posix(spec types.BaseHostAccountSpec) (types.HostAccountSpec, bool) {
	if full, ok := spec.(*types.HostPosixAccountSpec); ok {
		return full.HostAccountSpec, full.ShellAccess == nil || *full.ShellAccess
	}
	return *spec.GetHostAccountSpec(), true
}

// CreateUser makes an account, which has no access yet. (The default of shellAccess on ESXi 8 is not known.)
func (a *accountManager) CreateUser(req *types.CreateUser) soap.HasFault {
	body := &methods.CreateUserBody{}
	spec, shell := posix(req.User)
	switch {
	case a.host.accounts[spec.Id] != nil:
		body.Fault_ = simulator.Fault("The specified key, name, or identifier already exists.", &types.AlreadyExists{Name: spec.Id})
	case spec.Id == "" || len(spec.Id) > 32:
		body.Fault_ = simulator.Fault("A specified parameter was not correct: user.id", &types.InvalidArgument{InvalidProperty: "user.id"})
	case !a.host.acceptable(spec.Id, spec.Password):
		body.Fault_ = weak()
	default:
		if err := a.host.tell(Event{Kind: "CreateUser", ID: spec.Id, Password: spec.Password, Shell: shell}); err != nil {
			body.Fault_ = broken(err)
			return body
		}
		a.host.accounts[spec.Id] = &account{
			password: spec.Password, description: spec.Description, shell: shell, mode: types.HostAccessModeAccessNone,
		}
		body.Res = &types.CreateUserResponse{}
	}
	return body
}

// UpdateUser changes an account's password and description.
func (a *accountManager) UpdateUser(req *types.UpdateUser) soap.HasFault {
	body := &methods.UpdateUserBody{}
	spec, shell := posix(req.User)
	known := a.host.accounts[spec.Id]
	if known == nil {
		body.Fault_ = simulator.Fault("The user was not found", &types.UserNotFound{Principal: spec.Id})
		return body
	}
	if spec.Password != "" && !a.host.acceptable(spec.Id, spec.Password) {
		body.Fault_ = weak()
		return body
	}
	password := known.password
	if spec.Password != "" {
		password = spec.Password
	}
	admin := known.mode == types.HostAccessModeAccessAdmin
	if err := a.host.tell(Event{Kind: "UpdateUser", ID: spec.Id, Password: password, Shell: shell, Admin: admin}); err != nil {
		body.Fault_ = broken(err)
		return body
	}
	known.password, known.description, known.shell = password, spec.Description, shell
	body.Res = &types.UpdateUserResponse{}
	return body
}

// RemoveUser removes an account.
func (a *accountManager) RemoveUser(req *types.RemoveUser) soap.HasFault {
	body := &methods.RemoveUserBody{}
	if a.host.accounts[req.UserName] == nil {
		body.Fault_ = simulator.Fault("The user was not found", &types.UserNotFound{Principal: req.UserName})
		return body
	}
	if err := a.host.tell(Event{Kind: "RemoveUser", ID: req.UserName}); err != nil {
		body.Fault_ = broken(err)
		return body
	}
	delete(a.host.accounts, req.UserName)
	body.Res = &types.RemoveUserResponse{}
	return body
}

// accessManager says who may do what at a host, and whether it can be reached directly.
type accessManager struct {
	mo.HostAccessManager
	host       *host
	exceptions []string
}

// grant sets an account's access.
func (h *host) grant(name string, mode types.HostAccessMode) *soap.Fault {
	known := h.accounts[name]
	if known == nil {
		return simulator.Fault("The user or group was not found", &types.UserNotFound{Principal: name})
	}
	if err := h.tell(Event{Kind: "Access", ID: name, Admin: mode == types.HostAccessModeAccessAdmin}); err != nil {
		return broken(err)
	}
	known.mode = mode
	return nil
}

// ChangeAccessMode gives an account a role, or takes it.
func (a *accessManager) ChangeAccessMode(req *types.ChangeAccessMode) soap.HasFault {
	body := &methods.ChangeAccessModeBody{}
	if req.IsGroup {
		body.Fault_ = simulator.Fault("", &types.InvalidArgument{InvalidProperty: "isGroup"})
		return body
	}
	if body.Fault_ = a.host.grant(req.Principal, req.AccessMode); body.Fault_ == nil {
		body.Res = &types.ChangeAccessModeResponse{}
	}
	return body
}

// RetrieveHostAccessControlEntries lists accounts with a role.
func (a *accessManager) RetrieveHostAccessControlEntries(*types.RetrieveHostAccessControlEntries) soap.HasFault {
	entries := []types.HostAccessControlEntry{}
	for name, known := range a.host.accounts {
		if known.mode != types.HostAccessModeAccessNone {
			entries = append(entries, types.HostAccessControlEntry{Principal: name, AccessMode: known.mode})
		}
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Principal < entries[j].Principal })
	return &methods.RetrieveHostAccessControlEntriesBody{
		Res: &types.RetrieveHostAccessControlEntriesResponse{Returnval: entries},
	}
}

// lock sets the lockdown mode and who is excepted from it.
func (h *host) lock(mode types.HostLockdownMode, exceptions []string) error {
	if err := h.tell(Event{Kind: "Lockdown", Mode: string(mode), Exceptions: exceptions}); err != nil {
		return err
	}
	h.access.exceptions = exceptions
	simulator.Map.Update(h.access, []types.PropertyChange{{Name: "lockdownMode", Val: mode}})
	simulator.Map.Update(h.mo, []types.PropertyChange{{Name: "config.lockdownMode", Val: mode}})
	return nil
}

// ChangeLockdownMode sets the mode.
func (a *accessManager) ChangeLockdownMode(req *types.ChangeLockdownMode) soap.HasFault {
	if err := a.host.lock(req.Mode, a.exceptions); err != nil {
		return &methods.ChangeLockdownModeBody{Fault_: broken(err)}
	}
	return &methods.ChangeLockdownModeBody{Res: &types.ChangeLockdownModeResponse{}}
}

// QueryLockdownExceptions lists who is excepted.
func (a *accessManager) QueryLockdownExceptions(*types.QueryLockdownExceptions) soap.HasFault {
	return &methods.QueryLockdownExceptionsBody{Res: &types.QueryLockdownExceptionsResponse{Returnval: a.exceptions}}
}

// UpdateLockdownExceptions sets who is excepted.
func (a *accessManager) UpdateLockdownExceptions(req *types.UpdateLockdownExceptions) soap.HasFault {
	if err := a.host.lock(a.LockdownMode, req.Users); err != nil {
		return &methods.UpdateLockdownExceptionsBody{Fault_: broken(err)}
	}
	return &methods.UpdateLockdownExceptionsBody{Res: &types.UpdateLockdownExceptionsResponse{}}
}
