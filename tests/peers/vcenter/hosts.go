package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/esx"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// host is an ESXi host.
type host struct {
	config *HostConfig
	mo     *simulator.HostSystem
	dc     *datacenter
	pool   *types.ManagedObjectReference
	front  *front
	// address as clients write it: main.go.
	address  string
	services *serviceSystem
	access   *accessManager
	accounts map[string]*account
}

// account is a local one of a host.
type account struct {
	password    string
	description string
	shell       bool
	mode        types.HostAccessMode
	guard       guard
}

func (h *host) name() string {
	return h.mo.Name
}

func (s *site) addHost(client *vim25.Client, dc *datacenter, config *HostConfig) error {
	h := &host{config: config, dc: dc}
	h.accounts = map[string]*account{"root": {password: config.RootPassword, shell: true, mode: types.HostAccessModeAccessAdmin}}
	cert, key, listen := "", "", config.Listen
	if s.esxi {
		cert, key = s.config.Cert, s.config.Key
		if listen == "" {
			listen = s.config.Listen
		}
		for _, user := range s.config.Users {
			h.accounts[user.Name] = &account{password: user.Password, shell: true, mode: types.HostAccessModeAccessAdmin}
		}
	}
	var err error
	if h.front, err = s.listen(listen, cert, key, h); err != nil {
		return err
	}
	h.address = shortAddress(h.front.address)
	shown := config.ShownName
	if shown == "" {
		shown = h.address
	}
	if s.esxi {
		h.mo = simulator.Map.Any("HostSystem").(*simulator.HostSystem)
	} else {
		ctx := context.Background()
		folder := object.NewFolder(client, dc.mo.HostFolder)
		task, err := folder.AddStandaloneHost(ctx, types.HostConnectSpec{HostName: shown}, true, nil, nil)
		if err != nil {
			return err
		}
		info, err := task.WaitForResult(ctx, nil)
		if err != nil {
			return err
		}
		// The task gives the compute resource or the host, depending on the simulator's release.
		ref := info.Result.(types.ManagedObjectReference)
		if resource, ok := simulator.Map.Get(ref).(*mo.ComputeResource); ok {
			ref = resource.Host[0]
		}
		h.mo = simulator.Map.Get(ref).(*simulator.HostSystem)
	}
	if resource, ok := simulator.Map.Get(*h.mo.Parent).(*mo.ComputeResource); ok {
		h.pool = resource.ResourcePool
	}
	h.mo.Name, h.mo.Summary.Config.Name = shown, shown
	h.setAddress()
	h.setState()
	if config.Lockdown == "" {
		config.Lockdown = string(types.HostLockdownModeLockdownDisabled)
	}
	h.mo.Config.LockdownMode = types.HostLockdownMode(config.Lockdown)
	s.addManagers(h)
	dc.hosts = append(dc.hosts, h)
	s.hosts = append(s.hosts, h)
	return nil
}

// setAddress makes the host's listener its management address.
func (h *host) setAddress() {
	nic := types.HostVirtualNic{
		Device: "vmk0", Key: "key-vim.host.VirtualNic-vmk0", Portgroup: "Management Network",
		Spec: types.HostVirtualNicSpec{Ip: &types.HostIpConfig{IpAddress: h.address, SubnetMask: "255.0.0.0"}, Mac: "00:0c:29:81:d8:a0"},
	}
	network := *h.mo.Config.Network
	network.Vnic = []types.HostVirtualNic{nic}
	h.mo.Config.Network = &network
	nic.Key = "management.key-vim.host.VirtualNic-vmk0"
	info := types.HostVirtualNicManagerInfo{NetConfig: []types.VirtualNicManagerNetConfig{
		{NicType: "vmotion", CandidateVnic: []types.HostVirtualNic{nic}},
		{NicType: "management", MultiSelectAllowed: true, CandidateVnic: []types.HostVirtualNic{nic}, SelectedVnic: []string{nic.Key}},
	}}
	h.mo.Config.VirtualNicManagerInfo = &info
	nics := &mo.HostVirtualNicManager{Info: info}
	nics.Self = types.ManagedObjectReference{Type: "HostVirtualNicManager", Value: "virtualNicManager-" + h.mo.Self.Value}
	simulator.Map.Put(nics)
	h.mo.ConfigManager.VirtualNicManager = &nics.Self
}

// setState sets whether the host can be used.
func (h *host) setState() {
	h.mo.Runtime.ConnectionState = types.HostSystemConnectionStateConnected
	if h.config.Disconnected {
		h.mo.Runtime.ConnectionState = types.HostSystemConnectionStateNotResponding
	}
	h.mo.Runtime.PowerState = types.HostSystemPowerStatePoweredOn
	h.mo.Runtime.InMaintenanceMode = h.config.Maintenance
}

// addManagers adds what the simulator has not: services, local accounts, access.
func (s *site) addManagers(h *host) {
	id := h.mo.Self.Value
	h.services = &serviceSystem{host: h}
	h.services.Self = types.ManagedObjectReference{Type: "HostServiceSystem", Value: "serviceSystem-" + id}
	for _, service := range esx.HostConfigInfo.Service.Service {
		if service.Key == sshService {
			service.Running = h.config.SSHRunning
		}
		h.services.ServiceInfo.Service = append(h.services.ServiceInfo.Service, service)
	}
	h.mo.Config.Service = &h.services.ServiceInfo
	simulator.Map.Put(h.services)
	h.mo.ConfigManager.ServiceSystem = &h.services.Self

	accounts := &accountManager{site: s, host: h}
	accounts.Self = types.ManagedObjectReference{Type: "HostLocalAccountManager", Value: "localAccountManager-" + id}
	if s.esxi {
		content := simulator.Map.Get(vim25.ServiceInstance).(*simulator.ServiceInstance).Content
		accounts.Self = *content.AccountManager
	}
	simulator.Map.Put(accounts)
	h.mo.ConfigManager.AccountManager = &accounts.Self

	h.access = &accessManager{host: h}
	h.access.Self = types.ManagedObjectReference{Type: "HostAccessManager", Value: "hostAccessManager-" + id}
	h.access.LockdownMode = h.mo.Config.LockdownMode
	simulator.Map.Put(h.access)
	h.mo.ConfigManager.HostAccessManager = &h.access.Self
}

// hostLogin checks a local account: only administrators and, in lockdown, only exception users are let in. At is what the
// log of logins says of where it was.
func (s *site) hostLogin(h *host, at, name, password string) bool {
	attempt := Attempt{Host: at, User: name}
	account := h.accounts[name]
	if account != nil {
		attempt.OK, attempt.Locked = account.guard.try(password, account.password, s.config.LockSeconds)
		attempt.OK = attempt.OK && account.mode == types.HostAccessModeAccessAdmin && !h.refuses(name)
	}
	s.logins = append(s.logins, attempt)
	return attempt.OK
}

// refuses tells whether lockdown keeps a user out.
func (h *host) refuses(name string) bool {
	return h.access.LockdownMode != types.HostLockdownModeLockdownDisabled && !contains(h.access.exceptions, name)
}

// Event is what a hook is told, as one line of JSON; it answers `{}` or `{"error": "…"}` with one line.
//
// The kinds are CreateUser and UpdateUser (with password, shell and admin), RemoveUser, Access (admin), StartService
// and StopService (id is the service's key), Lockdown (mode and exceptions).
type Event struct {
	Host       string   `json:"host"`
	Kind       string   `json:"kind"`
	ID         string   `json:"id"`
	Password   string   `json:"password,omitempty"`
	Shell      bool     `json:"shell"`
	Admin      bool     `json:"admin"`
	Mode       string   `json:"mode,omitempty"`
	Exceptions []string `json:"exceptions,omitempty"`
}

// tell hands an event to the hook, and waits until it has done what is to be done.
func (h *host) tell(event Event) error {
	if h.config.Hook == "" {
		return nil
	}
	event.Host = h.config.Name
	connection, err := net.DialTimeout("unix", h.config.Hook, 10*time.Second)
	if err != nil {
		return err
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(60 * time.Second))
	if err := json.NewEncoder(connection).Encode(event); err != nil {
		return err
	}
	line, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil {
		return err
	}
	var answer struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal([]byte(line), &answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return fmt.Errorf("%s", answer.Error)
	}
	return nil
}

// acceptable tells whether pam_passwdqc with ESXi's rules takes a password: length, and character classes of which an
// upper-case letter in front and a digit at the end do not count.
func (h *host) acceptable(name, password string) bool {
	length, classes := h.config.MinimumLength, h.config.MinimumClasses
	if length == 0 {
		length = 7
	}
	if classes == 0 {
		classes = 3
	}
	runes := []rune(password)
	var lower, upper, digit, other bool
	for i, c := range runes {
		switch {
		case c >= 'a' && c <= 'z':
			lower = true
		case c >= 'A' && c <= 'Z':
			upper = upper || i > 0
		case c >= '0' && c <= '9':
			digit = digit || i < len(runes)-1
		default:
			other = true
		}
	}
	found := 0
	for _, each := range []bool{lower, upper, digit, other} {
		if each {
			found++
		}
	}
	personal := len(name) > 3 && strings.Contains(strings.ToLower(password), strings.ToLower(name))
	return len(runes) >= length && found >= classes && !personal
}
