package main

// Config is the first line on stdin.
type Config struct {
	// Mode is `vcenter` or `esxi`. An ESXi host has one datacenter with one host, and its own listener is the host's.
	Mode string `json:"mode"`
	// APIVersion is told by `about` and as the newest version; 8.0.2.0 if it is empty.
	APIVersion string `json:"api_version"`
	// Listen is where vCenter listens; 127.0.0.1 at a free port if it is empty.
	Listen string `json:"listen"`
	// Cert and Key are PEM files; without them a certificate is made.
	Cert string `json:"cert"`
	Key  string `json:"key"`
	// Users who may log in. On an ESXi host they are local administrators besides root.
	Users []User `json:"users"`
	// Datacenters with everything that is in them.
	Datacenters []DatacenterConfig `json:"datacenters"`
	// AccessLog is a file that gets a line of JSON for each request of /folder.
	AccessLog string `json:"access_log"`
	// TaskMillis is how long a task takes at least, in milliseconds.
	TaskMillis int `json:"task_ms"`
	// IdleSeconds ends sessions that were not used for so long; 0 never does.
	IdleSeconds int `json:"idle_seconds"`
	// TicketSeconds is a ticket's life; 120 if it is 0.
	TicketSeconds int `json:"ticket_seconds"`
	// LockSeconds is how long a user is locked out after 5 failures; 900 if it is 0.
	LockSeconds int `json:"lock_seconds"`
}

// User is somebody who may log in.
type User struct {
	Name     string `json:"name"`
	Password string `json:"password"`
	// Missing are the ids of privileges that the user lacks.
	Missing []string `json:"missing"`
}

// DatacenterConfig is a datacenter.
type DatacenterConfig struct {
	Name string `json:"name"`
	// Folder is the inventory folder that it is in, if any; the path of the datacenter is then `Folder/Name`.
	Folder     string            `json:"folder"`
	Hosts      []HostConfig      `json:"hosts"`
	Datastores []DatastoreConfig `json:"datastores"`
	VMs        []VMConfig        `json:"vms"`
}

// HostConfig is an ESXi host.
type HostConfig struct {
	// Name is what commands and the other parts of the configuration call it.
	Name string `json:"name"`
	// ShownName is HostSystem.name; its address if it is empty.
	ShownName string `json:"shown_name"`
	// Listen is where its HTTPS listens; see main.go for what an empty one means.
	Listen string `json:"listen"`
	// RootPassword is that of its root account.
	RootPassword string `json:"root_password"`
	// Hook is a Unix socket that is told of accounts and services: hosts.go.
	Hook         string `json:"hook"`
	Lockdown     string `json:"lockdown"`
	Disconnected bool   `json:"disconnected"`
	Maintenance  bool   `json:"maintenance"`
	SSHRunning   bool   `json:"ssh_running"`
	// MinimumLength and MinimumClasses are its rules for passwords; ESXi's own (7 characters of 3 classes) if they are 0.
	MinimumLength  int `json:"minimum_length"`
	MinimumClasses int `json:"minimum_classes"`
}

// DatastoreConfig is a datastore.
type DatastoreConfig struct {
	Name string `json:"name"`
	// Type is VMFS, NFS, NFS41, vsan, VVOL or any other text; VMFS if it is empty.
	Type string `json:"type"`
	// Dir is the folder with its content.
	Dir string `json:"dir"`
	// ID is the managed object's id, which may hold anything; made up if it is empty.
	ID string `json:"id"`
	// UUID names it in /vmfs/volumes; made up from its name if it is empty.
	UUID         string `json:"uuid"`
	Inaccessible bool   `json:"inaccessible"`
	// Maintenance is summary.maintenanceMode; `normal` if it is empty.
	Maintenance string `json:"maintenance"`
	ReadOnly    bool   `json:"read_only"`
	// Hosts mount it; all of the datacenter's if it is empty.
	Hosts []string `json:"hosts"`
}

// VMConfig is a virtual machine.
type VMConfig struct {
	Name  string       `json:"name"`
	Host  string       `json:"host"`
	On    bool         `json:"on"`
	Disks []DiskConfig `json:"disks"`
}

// DiskConfig is a disk of a virtual machine.
type DiskConfig struct {
	// Path is `[datastore] folder/file.vmdk`.
	Path string `json:"path"`
	// Mode is the disk's mode; `persistent` if it is empty.
	Mode string `json:"mode"`
}
