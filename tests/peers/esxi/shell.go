package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// loginShell notes the command that a session runs, as a host's log does, and becomes the shell.
func loginShell() {
	text := strings.Join(os.Args[1:], " ")
	if len(os.Args) > 2 && os.Args[1] == "-c" {
		text = os.Args[2]
	}
	if log, err := os.OpenFile("/"+commandLog, os.O_APPEND|os.O_WRONLY, 0); err == nil {
		line, _ := json.Marshal(text)
		_, _ = log.Write(append(line, '\n'))
		_ = log.Close()
	}
	name := "sh"
	if strings.HasPrefix(os.Args[0], "-") {
		name = "-sh"
	}
	environment := []string{"PATH=/bin:/sbin", "HOME=/", "TERM=xterm"}
	for _, each := range os.Environ() {
		if strings.HasPrefix(each, "SSH_") || strings.HasPrefix(each, "USER=") {
			environment = append(environment, each)
		}
	}
	err := syscall.Exec("/bin/sh", append([]string{name}, os.Args[1:]...), environment)
	fmt.Fprintln(os.Stderr, err)
	os.Exit(127)
}

// VMFS allocates in blocks of 1 MiB.
const vmfsBlock = 1 << 20

// vmkfstools knows `-t0 disk.vmdk` and `-p 0 disk-flat.vmdk`: the map of a disk. The strings for what is written, zeroed and
// not allocated are known; how the lines look around them is remembered, not seen.
func vmkfstools(args []string) int {
	mode, _ := os.ReadFile("/" + vmkfstoolsMode)
	var path string
	switch {
	case len(args) == 2 && args[0] == "-t0", len(args) == 3 && args[0] == "-t" && args[1] == "0":
		path = args[len(args)-1]
	case len(args) == 3 && args[0] == "-p" && args[1] == "0":
		path = args[2]
	default:
		fmt.Fprintln(os.Stderr, "Extra arguments at the end of the command line.")
		return 1
	}
	switch string(mode) {
	case "locked":
		fmt.Fprintln(os.Stderr, "Failed to open '"+path+"': Failed to lock the file (16392).")
		return 255
	case "garbage":
		fmt.Println("Mapping for file " + filepath.Base(path) + " (many bytes in size):\n[ : ] --> [VMFS\x00 what?")
		return 0
	}
	flat, err := extentOf(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "Failed to open '"+path+"': The system cannot find the file specified (25).")
		return 255
	}
	file, err := os.Open(flat)
	if err != nil {
		fmt.Fprintln(os.Stderr, "Failed to open '"+path+"': The system cannot find the file specified (25).")
		return 255
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 255
	}
	show(filepath.Base(path), file, info.Size(), string(mode))
	return 0
}

// extentOf gives the file that a descriptor names, or the file itself if it is none.
func extentOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	head := make([]byte, 64<<10)
	n, _ := file.Read(head)
	text := string(head[:n])
	if !strings.HasPrefix(text, "# Disk DescriptorFile") {
		return path, nil
	}
	named := regexp.MustCompile(`(?m)^(?:RW|RDONLY)\s+\d+\s+\S+\s+"([^"]+)"`).FindStringSubmatch(text)
	if named == nil {
		return "", os.ErrInvalid
	}
	return filepath.Join(filepath.Dir(path), named[1]), nil
}

const (
	seekData = 3
	seekHole = 4
)

// show writes the map: runs of blocks with data, and runs without.
func show(name string, file *os.File, size int64, mode string) {
	fmt.Printf("Mapping for file %s (%d bytes in size):\n", name, size)
	block, told := int64(1<<20), int64(0)
	line := func(start, end int64, written bool) {
		if end <= start {
			return
		}
		if mode == "lies" && written {
			// A map that hides data must not be believed.
			written = false
		}
		if mode == "short" && end > size/2 {
			return
		}
		if written {
			fmt.Printf("[%12d:%12d] --> [VMFS -- LVID:5f3c1a2b-0d4e6f80-1a2b-005056aabbcc/5f3c1a2a-9e8d7c6b-5a49-005056aabbcc/1:(%12d --> %12d)]\n",
				start, end-start, block, block+end-start)
			block += end - start
		} else {
			fmt.Printf("[%12d:%12d] --> [NOMP -- :(%12d --> %12d)]\n", start, end-start, 0, end-start)
		}
	}
	for told < size {
		data, err := file.Seek(told, seekData)
		if err != nil || data >= size {
			break
		}
		start := data / vmfsBlock * vmfsBlock
		if start < told {
			start = told
		}
		end := data
		for end < size {
			hole, err := file.Seek(end, seekHole)
			if err != nil {
				hole = size
			}
			end = (hole + vmfsBlock - 1) / vmfsBlock * vmfsBlock
			if end > size {
				end = size
			}
			// More data may begin in the block that ends here, or right after it.
			next, err := file.Seek(end, seekData)
			if end >= size || err != nil || next/vmfsBlock*vmfsBlock > end {
				break
			}
			end = next
		}
		line(told, start, false)
		line(start, end, true)
		told = end
	}
	line(told, size, false)
}
