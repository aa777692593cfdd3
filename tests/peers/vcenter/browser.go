package main

import (
	"bufio"
	"io"
	"os"
	"path"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// browser lists what is on a datastore.
type browser struct {
	mo.HostDatastoreBrowser
	site *site
}

// SearchDatastoreTask lists one folder.
func (b *browser) SearchDatastoreTask(req *types.SearchDatastore_Task) soap.HasFault {
	ref := b.search("searchDatastoreTask", req.DatastorePath, req.SearchSpec, false)
	return &methods.SearchDatastore_TaskBody{Res: &types.SearchDatastore_TaskResponse{Returnval: ref}}
}

// SearchDatastoreSubFoldersTask lists a folder and all below it.
func (b *browser) SearchDatastoreSubFoldersTask(req *types.SearchDatastoreSubFolders_Task) soap.HasFault {
	ref := b.search("searchDatastoreSubFoldersTask", req.DatastorePath, req.SearchSpec, true)
	return &methods.SearchDatastoreSubFolders_TaskBody{Res: &types.SearchDatastoreSubFolders_TaskResponse{Returnval: ref}}
}

// search makes the task and lets it run, as a real server does, after the answer has gone.
func (b *browser) search(name, where string, spec *types.HostDatastoreBrowserSearchSpec, deep bool) types.ManagedObjectReference {
	task := simulator.CreateTask(b, name, func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return b.run(where, spec, deep)
	})
	go func() {
		time.Sleep(time.Duration(b.site.config.TaskMillis) * time.Millisecond)
		world.Lock()
		defer world.Unlock()
		task.Run()
	}()
	return task.Self
}

func (b *browser) run(where string, spec *types.HostDatastoreBrowserSearchSpec, deep bool) (types.AnyType, types.BaseMethodFault) {
	var p object.DatastorePath
	if !p.FromString(where) {
		return nil, &types.InvalidDatastorePath{DatastorePath: where}
	}
	var store *datastore
	for _, dc := range b.site.datacenters {
		for _, each := range dc.stores {
			if each.mo.Browser == b.Self {
				store = each
			}
		}
	}
	if store == nil || store.mo.Name != p.Datastore {
		return nil, &types.InvalidDatastore{Name: p.Datastore}
	}
	if !store.mo.Summary.Accessible {
		return nil, &types.InaccessibleDatastore{InvalidDatastore: types.InvalidDatastore{
			Datastore: &store.mo.Self, Name: store.mo.Name,
		}}
	}
	if spec == nil {
		spec = &types.HostDatastoreBrowserSearchSpec{}
	}
	relative := strings.Trim(p.Path, "/")
	found := []types.HostDatastoreBrowserSearchResults{}
	if err := store.walk(relative, spec, deep, &found); err != nil {
		fault := types.FileFault{File: where}
		if os.IsNotExist(err) {
			return nil, &types.FileNotFound{FileFault: fault}
		}
		return nil, &types.CannotAccessFile{FileFault: fault}
	}
	if deep {
		return types.ArrayOfHostDatastoreBrowserSearchResults{HostDatastoreBrowserSearchResults: found}, nil
	}
	return found[0], nil
}

// walk lists a folder. Results name folders with a slash at the end (as far as is known, so do real servers).
func (d *datastore) walk(relative string, spec *types.HostDatastoreBrowserSearchSpec, deep bool, found *[]types.HostDatastoreBrowserSearchResults) error {
	real, ok := d.resolve(relative)
	if !ok {
		return os.ErrNotExist
	}
	info, err := os.Stat(real)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return os.ErrInvalid
	}
	entries, err := os.ReadDir(real)
	if err != nil {
		return err
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name() < entries[j].Name() })
	folder := "[" + d.mo.Name + "]"
	if relative != "" {
		folder += " " + relative + "/"
	}
	result := types.HostDatastoreBrowserSearchResults{Datastore: &d.mo.Self, FolderPath: folder}
	var below []string
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			continue
		}
		name, friendly := entry.Name(), ""
		if relative == "" && info.IsDir() && d.namespaced() {
			name, friendly = d.namespaceID(name), name
		}
		if info.IsDir() && deep {
			below = append(below, path.Join(relative, name))
		}
		if !fits(spec, name) && (friendly == "" || !fits(spec, friendly)) {
			continue
		}
		if file := describeFile(path.Join(real, entry.Name()), name, friendly, info, spec); file != nil {
			result.File = append(result.File, file)
		}
	}
	*found = append(*found, result)
	for _, each := range below {
		// A folder that vanished meanwhile is left out.
		_ = d.walk(each, spec, deep, found)
	}
	return nil
}

// fits tells whether a name is looked for. Without a pattern every one is.
func fits(spec *types.HostDatastoreBrowserSearchSpec, name string) bool {
	if len(spec.MatchPattern) == 0 {
		return true
	}
	for _, pattern := range spec.MatchPattern {
		if spec.SearchCaseInsensitive == nil || *spec.SearchCaseInsensitive {
			pattern, name = strings.ToLower(pattern), strings.ToLower(name)
		}
		if matches(pattern, name) {
			return true
		}
	}
	return false
}

// matches knows `*` and `?` only, as the real search does.
func matches(pattern, name string) bool {
	quoted := regexp.QuoteMeta(pattern)
	quoted = strings.ReplaceAll(strings.ReplaceAll(quoted, `\*`, ".*"), `\?`, ".")
	ok, err := regexp.MatchString("(?s)^"+quoted+"$", name)
	return err == nil && ok
}

// The files of a disk that a query for disks does not list: they belong to the descriptor.
var extentNames = regexp.MustCompile(`-(flat|delta|sesparse|ctk|rdm|rdmp|digest|s[0-9]{3}|f[0-9]{3})\.vmdk$`)

// describeFile gives what is told of a file; nil if the queries leave it out.
func describeFile(real, name, friendly string, info os.FileInfo, spec *types.HostDatastoreBrowserSearchSpec) types.BaseFileInfo {
	flags := spec.Details
	if flags == nil {
		flags = &types.FileQueryFlags{}
	}
	base := types.FileInfo{Path: name, FriendlyName: friendly}
	if flags.FileSize {
		base.FileSize = info.Size()
	}
	if flags.Modification {
		time := info.ModTime().UTC()
		base.Modification = &time
	}
	if flags.FileOwner != nil && *flags.FileOwner {
		base.Owner = "root"
	}
	if len(spec.Query) == 0 {
		if info.IsDir() && flags.FileType {
			return &types.FolderFileInfo{FileInfo: base}
		}
		if strings.HasSuffix(name, ".vmdk") && !extentNames.MatchString(name) && flags.FileType {
			return &types.VmDiskFileInfo{FileInfo: base}
		}
		return &base
	}
	for _, query := range spec.Query {
		switch query := query.(type) {
		case *types.FileQuery:
			return &base
		case *types.FolderFileQuery:
			if info.IsDir() {
				return &types.FolderFileInfo{FileInfo: base}
			}
		case *types.VmDiskFileQuery:
			if !info.IsDir() && strings.HasSuffix(name, ".vmdk") && !extentNames.MatchString(name) {
				return describeDisk(real, base, flags, query.Details)
			}
		case *types.VmConfigFileQuery:
			if strings.HasSuffix(name, ".vmx") {
				return &types.VmConfigFileInfo{FileInfo: base}
			}
		case *types.VmLogFileQuery:
			if strings.HasPrefix(name, "vmware") && strings.HasSuffix(name, ".log") {
				return &types.VmLogFileInfo{FileInfo: base}
			}
		case *types.VmNvramFileQuery:
			if strings.HasSuffix(name, ".nvram") {
				return &types.VmNvramFileInfo{FileInfo: base}
			}
		case *types.IsoImageFileQuery:
			if strings.HasSuffix(name, ".iso") {
				return &types.IsoImageFileInfo{FileInfo: base}
			}
		}
	}
	return nil
}

// describeDisk adds what the descriptor says. The size is that of the descriptor and of what its extents take up.
func describeDisk(real string, base types.FileInfo, flags *types.FileQueryFlags, wanted *types.VmDiskFileQueryFlags) types.BaseFileInfo {
	disk := &types.VmDiskFileInfo{FileInfo: base}
	known, err := readDescriptor(real)
	if err != nil {
		return disk
	}
	if flags.FileSize {
		for _, extent := range known.extents {
			if info, err := os.Stat(path.Join(path.Dir(real), extent)); err == nil {
				if stat, ok := info.Sys().(*syscall.Stat_t); ok {
					disk.FileSize += stat.Blocks * 512
				}
			}
		}
	}
	if wanted == nil {
		return disk
	}
	yes := func(flag *bool) bool { return flag != nil && *flag }
	if wanted.DiskType {
		disk.DiskType = "VirtualDiskFlatVer2BackingInfo"
		if known.kind == "vmfsSparse" || known.kind == "seSparse" {
			disk.DiskType = "VirtualDiskSeSparseBackingInfo"
		}
	}
	if wanted.CapacityKb {
		disk.CapacityKb = known.sectors / 2
	}
	if wanted.HardwareVersion {
		disk.HardwareVersion = known.hardware
	}
	if yes(wanted.ControllerType) {
		disk.ControllerType = map[string]string{
			"lsilogic": "VirtualLsiLogicController", "buslogic": "VirtualBusLogicController",
			"pvscsi": "ParaVirtualSCSIController", "ide": "VirtualIDEController",
		}[known.adapter]
	}
	if yes(wanted.DiskExtents) {
		disk.DiskExtents = known.extents
	}
	if yes(wanted.Thin) {
		disk.Thin = types.NewBool(known.thin)
	}
	return disk
}

// descriptor is what a disk's text says.
type descriptor struct {
	kind     string
	adapter  string
	hardware int32
	sectors  int64
	extents  []string
	thin     bool
}

// The longest descriptor that is read, in bytes.
const longestDescriptor = 64 << 10

func readDescriptor(real string) (*descriptor, error) {
	file, err := os.Open(real)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(io.LimitReader(file, longestDescriptor))
	if !lines.Scan() || !strings.HasPrefix(strings.TrimSpace(lines.Text()), "# Disk DescriptorFile") {
		return nil, os.ErrInvalid
	}
	d := &descriptor{}
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if fields := strings.SplitN(line, " ", 4); len(fields) == 4 && (fields[0] == "RW" || fields[0] == "RDONLY") {
			sectors, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				continue
			}
			d.sectors += sectors
			if quoted := strings.Split(fields[3], `"`); len(quoted) > 1 {
				d.extents = append(d.extents, quoted[1])
			}
			continue
		}
		parts := strings.SplitN(line, "=", 2)
		if len(parts) != 2 {
			continue
		}
		value := strings.Trim(strings.TrimSpace(parts[1]), `"`)
		switch strings.TrimSpace(parts[0]) {
		case "createType":
			d.kind = value
		case "ddb.adapterType":
			d.adapter = value
		case "ddb.thinProvisioned":
			d.thin = value == "1"
		case "ddb.virtualHWVersion":
			if number, err := strconv.ParseInt(value, 10, 32); err == nil {
				d.hardware = int32(number)
			}
		}
	}
	return d, lines.Err()
}
