package main

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// datacenter with what is in it.
type datacenter struct {
	config *DatacenterConfig
	mo     *simulator.Datacenter
	hosts  []*host
	stores []*datastore
}

// path is what dcPath wants: the inventory path without a slash in front.
func (dc *datacenter) path() string {
	return path.Join(dc.config.Folder, dc.mo.Name)
}

// datastore is one with a folder of this machine behind it.
type datastore struct {
	config *DatastoreConfig
	mo     *simulator.Datastore
	dc     *datacenter
	hosts  []*host
	uuid   string
}

func (d *datastore) mountedBy(h *host) bool {
	for _, each := range d.hosts {
		if each == h {
			return true
		}
	}
	return false
}

// namespaced tells whether top folders are objects with a UUID for a name, as on vSAN and vVols.
func (d *datastore) namespaced() bool {
	return d.mo.Summary.Type == "vsan" || d.mo.Summary.Type == "VVOL"
}

// namespaceID is the UUID of a top folder.
func (d *datastore) namespaceID(folder string) string {
	sum := sha1.Sum([]byte(d.uuid + "/" + folder))
	text := hex.EncodeToString(sum[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:32]
}

// resolve gives the file of this machine for a path on the datastore. False if it would lead out of it.
func (d *datastore) resolve(name string) (string, bool) {
	parts := strings.Split(strings.Trim(name, "/"), "/")
	for _, part := range parts {
		if part == ".." {
			return "", false
		}
	}
	if d.namespaced() {
		entries, _ := os.ReadDir(d.config.Dir)
		for _, entry := range entries {
			if entry.IsDir() && d.namespaceID(entry.Name()) == parts[0] {
				parts[0] = entry.Name()
			}
		}
	}
	return path.Join(d.config.Dir, path.Join(parts...)), true
}

// machine is a virtual machine.
type machine struct {
	config *VMConfig
	mo     *simulator.VirtualMachine
	dc     *datacenter
}

// build makes the inventory from the configuration.
func (s *site) build() error {
	var model *simulator.Model
	if s.esxi {
		model = simulator.ESX()
		if len(s.config.Datacenters) != 1 || len(s.config.Datacenters[0].Hosts) != 1 {
			return fmt.Errorf("an ESXi host has one datacenter with one host")
		}
	} else {
		model = simulator.VPX()
	}
	model.Datacenter, model.Portgroup, model.Host, model.Cluster = 0, 0, 0, 0
	model.ClusterHost, model.Datastore, model.Machine = 0, 0, 0
	s.describe(&model.ServiceContent)
	if err := model.Create(); err != nil {
		return err
	}
	s.service = model.Service
	s.service.RegisterSDK(simulator.Map)
	// Without a user the simulator takes any password, which is checked in front of it.
	s.service.Listen = new(url.URL)
	client, err := vim25.NewClient(context.Background(), s.service)
	if err != nil {
		return err
	}
	for i := range s.config.Datacenters {
		if err := s.addDatacenter(client, &s.config.Datacenters[i]); err != nil {
			return err
		}
	}
	return nil
}

// describe sets what the server says of itself.
func (s *site) describe(content *types.ServiceContent) {
	version := strings.TrimSuffix(s.config.APIVersion, ".0")
	about := &content.About
	about.Version, about.ApiVersion, about.Build = version, s.config.APIVersion, "22380479"
	about.FullName = fmt.Sprintf("%s %s build-%s", about.Name, version, about.Build)
	if !s.esxi {
		about.InstanceUuid = randomID()
	}
}

func (s *site) addDatacenter(client *vim25.Client, config *DatacenterConfig) error {
	ctx := context.Background()
	dc := &datacenter{config: config}
	if s.esxi {
		dc.mo = simulator.Map.Any("Datacenter").(*simulator.Datacenter)
	} else {
		folder := object.NewRootFolder(client)
		if config.Folder != "" {
			sub, err := folder.CreateFolder(ctx, config.Folder)
			if err != nil {
				return err
			}
			folder = sub
		}
		made, err := folder.CreateDatacenter(ctx, config.Name)
		if err != nil {
			return err
		}
		dc.mo = simulator.Map.Get(made.Reference()).(*simulator.Datacenter)
	}
	s.datacenters = append(s.datacenters, dc)
	for i := range config.Hosts {
		if err := s.addHost(client, dc, &config.Hosts[i]); err != nil {
			return err
		}
	}
	for i := range config.Datastores {
		if err := s.addDatastore(dc, &config.Datastores[i]); err != nil {
			return err
		}
	}
	for i := range config.VMs {
		if err := s.addMachine(dc, &config.VMs[i]); err != nil {
			return err
		}
	}
	return nil
}

// child puts an entity into a folder.
func child(folder types.ManagedObjectReference, entity mo.Entity) {
	parent := simulator.Map.Get(folder).(*simulator.Folder)
	entity.Entity().Parent = &folder
	simulator.Map.Put(entity)
	simulator.Map.AppendReference(parent, &parent.ChildEntity, entity.Reference())
}

func (s *site) addDatastore(dc *datacenter, config *DatastoreConfig) error {
	info, err := os.Stat(config.Dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is no folder", config.Dir)
	}
	if config.Type == "" {
		config.Type = "VMFS"
	}
	if config.Maintenance == "" {
		config.Maintenance = "normal"
	}
	d := &datastore{config: config, dc: dc, uuid: config.UUID, mo: &simulator.Datastore{}}
	if d.uuid == "" {
		d.uuid = madeUUID(config.Type, config.Name)
	}
	for _, h := range dc.hosts {
		if len(config.Hosts) == 0 || contains(config.Hosts, h.config.Name) {
			d.hosts = append(d.hosts, h)
		}
	}
	m := &d.mo.Datastore
	m.Self = s.newID("Datastore", "datastore")
	if config.ID != "" {
		m.Self.Value = config.ID
	}
	m.Name = config.Name
	m.Summary = types.DatastoreSummary{
		Datastore:          &m.Self,
		Name:               config.Name,
		Url:                "ds:///vmfs/volumes/" + d.uuid + "/",
		Capacity:           1 << 40,
		FreeSpace:          1 << 39,
		Accessible:         !config.Inaccessible,
		MultipleHostAccess: types.NewBool(len(d.hosts) > 1),
		Type:               config.Type,
		MaintenanceMode:    config.Maintenance,
	}
	m.Capability = types.DatastoreCapability{DirectoryHierarchySupported: true, PerFileThinProvisioningSupported: true}
	m.Info = d.info()
	browser := &browser{site: s, HostDatastoreBrowser: mo.HostDatastoreBrowser{
		Self:      types.ManagedObjectReference{Type: "HostDatastoreBrowser", Value: "datastoreBrowser-" + m.Self.Value},
		Datastore: []types.ManagedObjectReference{m.Self},
	}}
	m.Browser = simulator.Map.Put(browser).Reference()
	d.mount()
	child(dc.mo.DatastoreFolder, d.mo)
	simulator.Map.AppendReference(dc.mo, &dc.mo.Datastore, m.Self)
	for _, h := range d.hosts {
		h.mo.Datastore = append(h.mo.Datastore, m.Self)
	}
	dc.stores = append(dc.stores, d)
	return nil
}

// mount sets which hosts mount the datastore, and how.
func (d *datastore) mount() {
	mode := string(types.HostMountModeReadWrite)
	if d.config.ReadOnly {
		mode = string(types.HostMountModeReadOnly)
	}
	d.mo.Host = nil
	for _, h := range d.hosts {
		d.mo.Host = append(d.mo.Host, types.DatastoreHostMount{
			Key: h.mo.Self,
			MountInfo: types.HostMountInfo{
				Path:       "/vmfs/volumes/" + d.uuid,
				AccessMode: mode,
				Mounted:    types.NewBool(true),
				Accessible: types.NewBool(d.mo.Summary.Accessible),
			},
		})
	}
}

// info is what the datastore's type has of its own.
func (d *datastore) info() types.BaseDatastoreInfo {
	base := types.DatastoreInfo{Name: d.config.Name, Url: d.mo.Summary.Url, FreeSpace: d.mo.Summary.FreeSpace, MaxFileSize: 62 << 40}
	volume := types.HostFileSystemVolume{Type: d.config.Type, Name: d.config.Name, Capacity: d.mo.Summary.Capacity}
	switch d.config.Type {
	case "VMFS":
		return &types.VmfsDatastoreInfo{DatastoreInfo: base, Vmfs: &types.HostVmfsVolume{
			HostFileSystemVolume: volume, BlockSizeMb: 1, BlockSize: 1024, MaxBlocks: 63963136, MajorVersion: 6,
			Version: "6.82", Uuid: d.uuid, Local: types.NewBool(false),
			Extent: []types.HostScsiDiskPartition{{DiskName: "naa.600a098000000000", Partition: 1}},
		}}
	case "NFS", "NFS41":
		return &types.NasDatastoreInfo{DatastoreInfo: base, Nas: &types.HostNasVolume{
			HostFileSystemVolume: volume, RemoteHost: "127.0.0.1", RemotePath: "/export/" + d.config.Name,
		}}
	case "vsan":
		return &types.VsanDatastoreInfo{DatastoreInfo: base, MembershipUuid: d.uuid}
	case "VVOL":
		return &types.VvolDatastoreInfo{DatastoreInfo: base}
	default:
		return &types.LocalDatastoreInfo{DatastoreInfo: base, Path: d.config.Dir}
	}
}

// madeUUID is as /vmfs/volumes names such a datastore, always the same for a name.
func madeUUID(kind, name string) string {
	sum := sha1.Sum([]byte(name))
	text := hex.EncodeToString(sum[:])
	switch kind {
	case "NFS", "NFS41":
		return text[:8] + "-" + text[8:16]
	case "vsan", "VVOL":
		return strings.ToLower(kind) + ":" + text[:16] + "-" + text[16:32]
	default:
		return text[:8] + "-" + text[8:16] + "-" + text[16:20] + "-" + text[20:32]
	}
}

func (s *site) addMachine(dc *datacenter, config *VMConfig) error {
	var at *host
	for _, h := range dc.hosts {
		if config.Host == "" || h.config.Name == config.Host {
			at = h
			break
		}
	}
	if at == nil {
		return fmt.Errorf("machine %s is on host %q, which %s has not", config.Name, config.Host, dc.config.Name)
	}
	vm := &machine{config: config, dc: dc, mo: &simulator.VirtualMachine{}}
	m := &vm.mo.VirtualMachine
	m.Self = s.newID("VirtualMachine", "vm")
	m.Name = config.Name
	power := types.VirtualMachinePowerStatePoweredOff
	if config.On {
		power = types.VirtualMachinePowerStatePoweredOn
	}
	m.Runtime = types.VirtualMachineRuntimeInfo{
		Host: &at.mo.Self, ConnectionState: types.VirtualMachineConnectionStateConnected, PowerState: power,
	}
	m.Config = &types.VirtualMachineConfigInfo{
		Name: config.Name, Version: "vmx-19", Uuid: randomID(), InstanceUuid: randomID(), GuestId: "windows9_64Guest",
		Files: types.VirtualMachineFileInfo{VmPathName: fmt.Sprintf("[local] %s/%s.vmx", config.Name, config.Name)},
	}
	m.Summary = types.VirtualMachineSummary{
		Vm: &m.Self, Runtime: m.Runtime, OverallStatus: types.ManagedEntityStatusGreen,
		Config: types.VirtualMachineConfigSummary{Name: config.Name, VmPathName: m.Config.Files.VmPathName},
	}
	m.ResourcePool = at.pool
	if err := s.setDisks(vm, config.Disks); err != nil {
		return err
	}
	child(dc.mo.VmFolder, vm.mo)
	at.mo.Vm = append(at.mo.Vm, m.Self)
	s.vms = append(s.vms, vm)
	return nil
}

// setDisks gives a machine these disks and no others.
func (s *site) setDisks(vm *machine, disks []DiskConfig) error {
	devices := []types.BaseVirtualDevice{
		&types.ParaVirtualSCSIController{VirtualSCSIController: types.VirtualSCSIController{
			VirtualController: types.VirtualController{VirtualDevice: types.VirtualDevice{Key: 1000}},
			SharedBus:         types.VirtualSCSISharingNoSharing,
		}},
	}
	self := vm.mo.Self
	var stores []types.ManagedObjectReference
	for i, disk := range disks {
		var path object.DatastorePath
		if !path.FromString(disk.Path) {
			return fmt.Errorf("%q is no path of a datastore", disk.Path)
		}
		var store *datastore
		for _, each := range vm.dc.stores {
			if each.mo.Name == path.Datastore {
				store = each
			}
		}
		if store == nil {
			return fmt.Errorf("%s has no datastore %q", vm.dc.config.Name, path.Datastore)
		}
		mode := disk.Mode
		if mode == "" {
			mode = string(types.VirtualDiskModePersistent)
		}
		unit := int32(i)
		if unit >= 7 {
			// 7 is the controller's own.
			unit++
		}
		capacity := int64(1 << 20)
		if real, ok := store.resolve(path.Path); ok {
			if known, err := readDescriptor(real); err == nil {
				capacity = known.sectors / 2
			}
		}
		devices = append(devices, &types.VirtualDisk{
			VirtualDevice: types.VirtualDevice{
				Key: 2000 + int32(i), ControllerKey: 1000, UnitNumber: &unit,
				Backing: &types.VirtualDiskFlatVer2BackingInfo{
					VirtualDeviceFileBackingInfo: types.VirtualDeviceFileBackingInfo{FileName: disk.Path, Datastore: &store.mo.Self},
					DiskMode:                     mode,
					ThinProvisioned:              types.NewBool(true),
					Uuid:                         randomID(),
				},
			},
			CapacityInKB: capacity, CapacityInBytes: capacity << 10,
		})
		if simulator.FindReference(stores, store.mo.Self) == nil {
			stores = append(stores, store.mo.Self)
		}
	}
	for _, store := range vm.dc.stores {
		simulator.RemoveReference(&store.mo.Vm, self)
		if simulator.FindReference(stores, store.mo.Self) != nil {
			store.mo.Vm = append(store.mo.Vm, self)
		}
	}
	vm.config.Disks = disks
	if simulator.Map.Get(self) == nil {
		vm.mo.Config.Hardware.Device, vm.mo.Datastore = devices, stores
		return nil
	}
	simulator.Map.Update(vm.mo, []types.PropertyChange{
		{Name: "config.hardware.device", Val: devices},
		{Name: "datastore", Val: stores},
	})
	return nil
}

func contains(list []string, text string) bool {
	for _, each := range list {
		if each == text {
			return true
		}
	}
	return false
}
