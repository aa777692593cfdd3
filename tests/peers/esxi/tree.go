package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// tree is what sessions see as `/`. It is only in this namespace, and must be below folders that root alone may write:
// the SSH server insists on that.
const tree = "/mnt"

const (
	// commandLog and vmkfstoolsMode are files in the tree.
	commandLog     = "var/log/commands"
	vmkfstoolsMode = "etc/vmkfstools-mode"
	// ownProgram is a copy of this program in our folder.
	ownProgram = "esxi"
)

// The applets that an ESXi host's BusyBox was seen to have, with what its shell needs. No nice, ionice, split, base64,
// xxd, cmp, nc or truncate.
var applets = strings.Fields(`[ awk cat chmod chown cksum cp cut date dd df diff dirname du echo env expr false find
	grep gunzip gzip head hexdump hostname id kill ln ls lzop md5sum mkdir mkfifo mktemp mv nohup od pidof printf ps pwd
	readlink rm rmdir sed seq sha1sum sha256sum sha512sum sleep sort stat stty sync tail tar tee test time timeout
	touch tr true uniq unzip uptime usleep vi wc wget which whoami xargs zcat`)

// buildTree makes the tree in a file system in memory.
func buildTree(config *Config) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// It is built where nothing is hidden by it, and moved.
	built := filepath.Join(config.Dir, "tree")
	if err := os.Mkdir(built, 0755); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", built, "tmpfs", 0, "mode=0755,size=256m"); err != nil {
		return fmt.Errorf("mount the tree: %w", err)
	}
	for _, folder := range []string{"bin", "sbin", "dev", "etc", "tmp", "var/log", "vmfs/volumes"} {
		if err := os.MkdirAll(filepath.Join(built, folder), 0755); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(built, "tmp"), os.ModeSticky|0777); err != nil {
		return err
	}
	for _, device := range []string{"null", "zero", "urandom"} {
		if err := bind("/dev/"+device, filepath.Join(built, "dev", device), false); err != nil {
			return err
		}
	}
	if err := addPrograms(config, built); err != nil {
		return err
	}
	for _, store := range config.Stores {
		at := filepath.Join(built, "vmfs/volumes", store.UUID)
		if err := bind(store.Dir, at, true); err != nil {
			return err
		}
		if err := os.Symlink(store.UUID, filepath.Join(built, "vmfs/volumes", store.Name)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(built, commandLog), nil, 0600); err != nil {
		return err
	}
	if err := syscall.Mount(built, tree, "", syscall.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the tree: %w", err)
	}
	if err := setVmkfstools(config.Vmkfstools); err != nil {
		return err
	}
	if err := ownTmp(config.Dir); err != nil {
		return err
	}
	if _, err := os.Stat("/run/sshd"); err != nil {
		// The server wants this folder, which only an installed service makes.
		if err := syscall.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
			return err
		}
		return os.Mkdir("/run/sshd", 0755)
	}
	return nil
}

// ownTmp hides /tmp but for our own folder. The wrapper of PAM works in a few folders there, and takes those away whose
// process it does not see: to servers in other namespaces, all of them.
func ownTmp(dir string) error {
	built := filepath.Join(dir, "tmp")
	if err := os.Mkdir(built, 0755); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", built, "tmpfs", 0, "mode=1777,size=64m"); err != nil {
		return fmt.Errorf("mount a folder for temporary files: %w", err)
	}
	if below := strings.TrimPrefix(dir, "/tmp/"); below != dir {
		again := filepath.Join(built, below)
		if err := os.MkdirAll(filepath.Dir(again), 0755); err != nil {
			return err
		}
		if err := bind(dir, again, true); err != nil {
			return err
		}
	}
	if err := syscall.Mount(built, "/tmp", "", syscall.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the folder for temporary files: %w", err)
	}
	return nil
}

// bind mounts a file or a folder at another place too.
func bind(from, to string, folder bool) error {
	var err error
	if folder {
		err = os.Mkdir(to, 0755)
	} else {
		err = os.WriteFile(to, nil, 0644)
	}
	if err == nil {
		err = syscall.Mount(from, to, "", syscall.MS_BIND, "")
	}
	if err != nil {
		return fmt.Errorf("mount %s: %w", from, err)
	}
	return nil
}

// addPrograms puts BusyBox, our own programs and, if it is wanted, scp into the tree.
func addPrograms(config *Config, built string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	if err := copyProgram(busybox, filepath.Join(built, "bin/busybox")); err != nil {
		return err
	}
	for _, applet := range applets {
		if contains(config.Without, applet) {
			continue
		}
		if err := os.Symlink("busybox", filepath.Join(built, "bin", applet)); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, to := range []string{filepath.Join(built, "bin/login-shell"), filepath.Join(config.Dir, ownProgram)} {
		if err := copyProgram(self, to); err != nil {
			return err
		}
	}
	// BusyBox's own shell takes every applet that it has for a command, so what is left out would still be there. Dash
	// looks for programs as the shell of a host does.
	shell := "busybox"
	if addDynamic("dash", built) == nil {
		shell = "dash"
	}
	for _, name := range []string{"sh", "ash"} {
		if err := os.Symlink(shell, filepath.Join(built, "bin", name)); err != nil {
			return err
		}
	}
	scripts := map[string]string{
		"etc/passwd": "root:x:0:0:Administrator:/:/bin/sh\n",
		"etc/group":  "root:x:0:root\n",
		"bin/uname":  "#!/bin/sh\ncase \"$1\" in -a) echo 'VMkernel esx 8.0.2 #1 SMP Release build-22380479 x86_64 ESXi' ;; *) echo VMkernel ;; esac\n",
		"bin/vmware": "#!/bin/sh\necho 'VMware ESXi 8.0.2 build-22380479'\n",
	}
	for name, text := range scripts {
		mode := os.FileMode(0755)
		if strings.HasPrefix(name, "etc/") {
			mode = 0644
		}
		if err := os.WriteFile(filepath.Join(built, name), []byte(text), mode); err != nil {
			return err
		}
	}
	if config.SCP {
		return addDynamic("scp", built)
	}
	return nil
}

func copyProgram(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0755)
}

// addDynamic puts a program into the tree with the libraries that it wants.
func addDynamic(name, built string) error {
	program, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	if err := copyProgram(program, filepath.Join(built, "bin", name)); err != nil {
		return err
	}
	told, err := exec.Command("ldd", program).Output()
	if err != nil {
		return fmt.Errorf("ldd %s: %w", program, err)
	}
	for _, library := range regexp.MustCompile(`/\S+`).FindAllString(string(told), -1) {
		to := filepath.Join(built, library)
		if err := os.MkdirAll(filepath.Dir(to), 0755); err != nil {
			return err
		}
		if err := copyProgram(library, to); err != nil {
			return err
		}
	}
	return nil
}

// setVmkfstools sets how vmkfstools behaves from now on.
func setVmkfstools(mode string) error {
	link := filepath.Join(tree, "sbin/vmkfstools")
	_ = os.Remove(link)
	switch mode {
	case "absent":
		return nil
	case "map", "garbage", "lies", "short", "locked":
	default:
		return fmt.Errorf("vmkfstools can't be %q", mode)
	}
	if err := os.WriteFile(filepath.Join(tree, vmkfstoolsMode), []byte(mode), 0644); err != nil {
		return err
	}
	return os.Symlink("/bin/login-shell", link)
}
