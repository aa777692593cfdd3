package main

import (
	"fmt"
	"sort"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// Command is a line on stdin. Do names what is to be done; what else counts is said there.
type Command struct {
	Do        string   `json:"do"`
	VM        string   `json:"vm"`
	Host      string   `json:"host"`
	User      string   `json:"user"`
	Datastore string   `json:"datastore"`
	Path      string   `json:"path"`
	Mode      string   `json:"mode"`
	Name      string   `json:"name"`
	On        bool     `json:"on"`
	Privilege string   `json:"privilege"`
	Users     []string `json:"users"`
	Trouble   *Trouble `json:"trouble"`
}

// Done answers a command that has nothing to tell.
type Done struct {
	OK bool `json:"ok"`
}

// obey does what a command says.
func (s *site) obey(c *Command) (interface{}, error) {
	switch c.Do {
	case "down", "up":
		return s.switchFront(c)
	}
	world.Lock()
	defer world.Unlock()
	done := &Done{OK: true}
	switch c.Do {
	case "attach", "detach", "power":
		return done, s.change(c)
	case "rename_datastore", "accessible", "maintenance":
		return done, s.changeDatastore(c)
	case "expire_sessions":
		s.sessions = map[string]*session{}
	case "expire_tickets":
		s.tickets = map[string]*ticket{}
	case "revoke", "restore":
		return done, s.setPrivilege(c)
	case "unlock":
		for _, user := range s.users {
			user.guard = guard{}
		}
		for _, h := range s.hosts {
			for _, account := range h.accounts {
				account.guard = guard{}
			}
		}
	case "trouble":
		if c.Trouble == nil {
			return nil, fmt.Errorf("which trouble?")
		}
		s.troubles = append(s.troubles, c.Trouble)
	case "no_trouble":
		s.troubles = nil
	case "lockdown", "connected", "host_maintenance", "service", "accounts", "add_account":
		h := s.host(c.Host)
		if h == nil {
			return nil, fmt.Errorf("there is no host %q", c.Host)
		}
		return s.changeHost(h, c)
	case "calls":
		return s.counts(), nil
	case "call_log":
		return map[string]interface{}{"calls": s.calls}, nil
	case "forget":
		s.calls, s.accesses, s.logins, s.issued = nil, nil, nil, 0
	case "accesses":
		return map[string]interface{}{"accesses": s.accesses, "tickets_issued": s.issued, "tickets_left": len(s.tickets)}, nil
	case "logins":
		return map[string]interface{}{"logins": s.logins}, nil
	case "sessions":
		users := []string{}
		for _, session := range s.sessions {
			users = append(users, session.user)
		}
		sort.Strings(users)
		return map[string]interface{}{"sessions": users}, nil
	default:
		return nil, fmt.Errorf("there is no command %q", c.Do)
	}
	return done, nil
}

// switchFront takes a listener away or brings it back: that of `host`, or vCenter's own without one.
func (s *site) switchFront(c *Command) (interface{}, error) {
	f := s.front
	if c.Host != "" {
		h := s.host(c.Host)
		if h == nil {
			return nil, fmt.Errorf("there is no host %q", c.Host)
		}
		f = h.front
	}
	if c.Do == "down" {
		f.down()
		return &Done{OK: true}, nil
	}
	return &Done{OK: true}, f.up()
}

// change is about a virtual machine: `attach` (path, mode) and `detach` (path) a disk, `power` (on).
func (s *site) change(c *Command) error {
	for _, vm := range s.vms {
		if vm.mo.Name != c.VM {
			continue
		}
		if c.Do == "power" {
			state := types.VirtualMachinePowerStatePoweredOff
			if c.On {
				state = types.VirtualMachinePowerStatePoweredOn
			}
			simulator.Map.Update(vm.mo, []types.PropertyChange{
				{Name: "runtime.powerState", Val: state}, {Name: "summary.runtime.powerState", Val: state},
			})
			return nil
		}
		disks := []DiskConfig{}
		for _, disk := range vm.config.Disks {
			if disk.Path != c.Path {
				disks = append(disks, disk)
			}
		}
		if c.Do == "attach" {
			disks = append(disks, DiskConfig{Path: c.Path, Mode: c.Mode})
		} else if len(disks) == len(vm.config.Disks) {
			return fmt.Errorf("%s has no disk %q", c.VM, c.Path)
		}
		return s.setDisks(vm, disks)
	}
	return fmt.Errorf("there is no machine %q", c.VM)
}

// changeDatastore is about `datastore`: its new `name`, whether hosts reach it (on), its maintenance `mode`.
func (s *site) changeDatastore(c *Command) error {
	for _, dc := range s.datacenters {
		for _, d := range dc.stores {
			if d.mo.Name != c.Datastore {
				continue
			}
			var changes []types.PropertyChange
			switch c.Do {
			case "rename_datastore":
				d.config.Name = c.Name
				d.mo.Name, d.mo.Summary.Name = c.Name, c.Name
				d.mo.Info.GetDatastoreInfo().Name = c.Name
				changes = []types.PropertyChange{{Name: "name", Val: c.Name}, {Name: "summary.name", Val: c.Name}}
			case "accessible":
				d.mo.Summary.Accessible = c.On
				d.mount()
				changes = []types.PropertyChange{{Name: "summary.accessible", Val: c.On}, {Name: "host", Val: d.mo.Host}}
			default:
				changes = []types.PropertyChange{{Name: "summary.maintenanceMode", Val: c.Mode}}
			}
			simulator.Map.Update(d.mo, changes)
			if c.Do == "rename_datastore" {
				// The names of attached disks hold the datastore's name.
				for _, vm := range s.vms {
					disks := vm.config.Disks
					for i := range disks {
						if rest := strings.TrimPrefix(disks[i].Path, "["+c.Datastore+"]"); rest != disks[i].Path {
							disks[i].Path = "[" + c.Name + "]" + rest
						}
					}
					if err := s.setDisks(vm, disks); err != nil {
						return err
					}
				}
			}
			return nil
		}
	}
	return fmt.Errorf("there is no datastore %q", c.Datastore)
}

// setPrivilege takes `privilege` from a `user`, or gives it back.
func (s *site) setPrivilege(c *Command) error {
	user := s.users[strings.ToLower(c.User)]
	if user == nil {
		return fmt.Errorf("there is no user %q", c.User)
	}
	missing := []string{}
	for _, each := range user.Missing {
		if each != c.Privilege {
			missing = append(missing, each)
		}
	}
	if c.Do == "revoke" {
		missing = append(missing, c.Privilege)
	}
	user.Missing = missing
	return nil
}

// changeHost is about `host`: `lockdown` (mode, users who are excepted), `connected` (on), `host_maintenance` (on),
// `service` (name, on: done without the API), `add_account` (name: one that somebody else made), `accounts` (tells them).
func (s *site) changeHost(h *host, c *Command) (interface{}, error) {
	done := &Done{OK: true}
	switch c.Do {
	case "lockdown":
		return done, h.lock(types.HostLockdownMode(c.Mode), c.Users)
	case "connected":
		state := types.HostSystemConnectionStateNotResponding
		if c.On {
			state = types.HostSystemConnectionStateConnected
		}
		simulator.Map.Update(h.mo, []types.PropertyChange{{Name: "runtime.connectionState", Val: state}})
	case "host_maintenance":
		simulator.Map.Update(h.mo, []types.PropertyChange{{Name: "runtime.inMaintenanceMode", Val: c.On}})
	case "service":
		if fault := h.services.turn(c.Name, c.On); fault != nil {
			return nil, fmt.Errorf("%s", fault.String)
		}
	case "add_account":
		h.accounts[c.Name] = &account{password: randomID(), mode: types.HostAccessModeAccessAdmin, shell: true}
	case "accounts":
		accounts := map[string]interface{}{}
		for name, known := range h.accounts {
			accounts[name] = map[string]interface{}{
				"mode": known.mode, "description": known.description, "shell": known.shell,
			}
		}
		running := []string{}
		for _, service := range h.services.ServiceInfo.Service {
			if service.Running {
				running = append(running, service.Key)
			}
		}
		return map[string]interface{}{"accounts": accounts, "running": running, "lockdown": h.access.LockdownMode}, nil
	}
	return done, nil
}

// counts tells how often each method was called.
func (s *site) counts() interface{} {
	counts := map[string]int{}
	for _, call := range s.calls {
		counts[call.Method]++
	}
	return map[string]interface{}{"calls": counts}
}
