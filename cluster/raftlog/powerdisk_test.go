package raftlog_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/lni/vfs"
)

// powerDisk is a file system in memory that knows what a power cut would leave.
// Writes reach stable storage by a sync of the file, and before that sector by
// sector or not at all; names by a sync of the directory, and before that in
// order. Every operation that changes something asks before first.
type powerDisk struct {
	mu    sync.Mutex
	now   map[string]*inode // names as a process sees them
	after map[string]*inode // names as a power cut leaves them
	names []nameChange      // not on stable storage yet, in order
	dirs  map[string]bool
	used  int64
	limit int64 // disk is full beyond; 0 is no limit

	// before is called ahead of every change, with mu held. Its error is the
	// operation's.
	before func(what change, name string) error
	syncs  map[string]int // by the extension of the file, "dir" for directories
	read   map[string]bool
}

type change string

const (
	changeWrite  change = "write"
	changeSync   change = "sync"
	changeCreate change = "create"
	changeRename change = "rename"
	changeRemove change = "remove"
)

const sector = 512

type inode struct {
	data    []byte // as a process sees it
	stable  []byte // what syncs brought to the disk
	pending []extent
}

// extent is a write that no sync covers.
type extent struct {
	off  int
	data []byte
}

// nameChange gives a name to an inode, or takes it away (nil).
type nameChange struct {
	name string
	ino  *inode
}

func newPowerDisk() *powerDisk {
	return &powerDisk{
		now: map[string]*inode{}, after: map[string]*inode{}, dirs: map[string]bool{"/": true},
		syncs: map[string]int{}, read: map[string]bool{},
	}
}

// fate says what becomes of everything that is not on stable storage.
type fate int

const (
	allLost fate = iota
	allKept
	someKept // a prefix of the names, any of the sectors
)

// cut returns the disk as the next process finds it after a power cut now.
func (d *powerDisk) cut(f fate, rnd *rand.Rand) *powerDisk {
	c := newPowerDisk()
	for dir := range d.dirs {
		c.dirs[dir] = true
	}
	names := map[string]*inode{}
	for n, ino := range d.after {
		names[n] = ino
	}
	keep := len(d.names)
	switch f {
	case allLost:
		keep = 0
	case someKept:
		keep = rnd.IntN(len(d.names) + 1)
	}
	for _, ch := range d.names[:keep] {
		ch.in(names)
	}
	copies := map[*inode]*inode{}
	for n, ino := range names {
		if copies[ino] == nil {
			data := slices.Clone(ino.stable)
			for _, e := range ino.pending {
				for off := e.off; off < e.off+len(e.data); {
					end := min((off/sector+1)*sector, e.off+len(e.data))
					if f == allKept || f == someKept && rnd.IntN(2) == 0 {
						data = put(data, off, e.data[off-e.off:end-e.off])
					}
					off = end
				}
			}
			copies[ino] = &inode{data: data, stable: slices.Clone(data)}
			c.used += int64(len(data))
		}
		c.now[n], c.after[n] = copies[ino], copies[ino]
	}
	return c
}

func (ch nameChange) in(m map[string]*inode) {
	if ch.ino == nil {
		delete(m, ch.name)
	} else {
		m[ch.name] = ch.ino
	}
}

func put(data []byte, off int, b []byte) []byte {
	if n := off + len(b); n > len(data) {
		data = append(data, make([]byte, n-len(data))...)
	}
	copy(data[off:], b)
	return data
}

// clone copies the disk with everything on it on stable storage.
func (d *powerDisk) clone() *powerDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cut(allKept, nil)
}

// file returns the content of a file, to be damaged by a test.
func (d *powerDisk) file(name string) *inode { return d.now[name] }

// segments returns the names of the segments there are, oldest first.
func (d *powerDisk) segments() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for n := range d.now {
		if strings.HasSuffix(n, ".seg") {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

// namesRead are the files of which something was read.
func (d *powerDisk) namesRead() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.read))
}

// ready says whether the segment behind the tail is prepared and safe. Until it
// is, changes of the disk come that have nothing to do with what a test does.
func (d *powerDisk) ready() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	last := ""
	for n := range d.now {
		switch path.Ext(n) {
		case ".tmp":
			return false
		case ".seg":
			last = max(last, n)
		}
	}
	if last == "" || slices.ContainsFunc(d.names, func(ch nameChange) bool { return ch.name == last }) {
		return false
	}
	var number uint64
	_, err := fmt.Sscanf(path.Base(last), "%d.seg", &number)
	const numberOfFirstGroup = 64 + 8 // the tail's is its own
	return err == nil && binary.LittleEndian.Uint64(d.now[last].data[numberOfFirstGroup:]) != number
}

func (d *powerDisk) ask(what change, name string) error {
	if d.before == nil {
		return nil
	}
	return d.before(what, name)
}

func notExist(op, name string) error {
	return &os.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

func (d *powerDisk) rename(ch ...nameChange) {
	for _, c := range ch {
		c.in(d.now)
		d.names = append(d.names, c)
	}
}

// Create implements vfs.FS.
func (d *powerDisk) Create(name string) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ask(changeCreate, name); err != nil {
		return nil, err
	}
	ino := &inode{}
	d.rename(nameChange{name, ino})
	return &powerFile{d: d, ino: ino, name: name, write: true}, nil
}

// Open implements vfs.FS.
func (d *powerDisk) Open(name string, _ ...vfs.OpenOption) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.now[name] == nil {
		return nil, notExist("open", name)
	}
	return &powerFile{d: d, ino: d.now[name], name: name}, nil
}

// OpenForAppend implements vfs.FS.
func (d *powerDisk) OpenForAppend(name string) (vfs.File, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	p := f.(*powerFile)
	p.write, p.pos = true, len(p.ino.data)
	return p, nil
}

// OpenDir implements vfs.FS.
func (d *powerDisk) OpenDir(name string) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dirs[path.Clean(name)] {
		return nil, notExist("open", name)
	}
	return &powerFile{d: d, name: name}, nil
}

// Rename implements vfs.FS.
func (d *powerDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ask(changeRename, to); err != nil {
		return err
	}
	ino := d.now[from]
	if ino == nil {
		return notExist("rename", from)
	}
	if from != to {
		d.rename(nameChange{from, nil}, nameChange{to, ino})
	}
	return nil
}

// ReuseForWrite implements vfs.FS.
func (d *powerDisk) ReuseForWrite(from, to string) (vfs.File, error) {
	if err := d.Rename(from, to); err != nil {
		return nil, err
	}
	f, err := d.Open(to)
	if err != nil {
		return nil, err
	}
	f.(*powerFile).write = true
	return f, nil
}

// Remove implements vfs.FS.
func (d *powerDisk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.ask(changeRemove, name); err != nil {
		return err
	}
	ino := d.now[name]
	if ino == nil {
		return notExist("remove", name)
	}
	d.used -= int64(len(ino.data))
	d.rename(nameChange{name, nil})
	return nil
}

// RemoveAll implements vfs.FS.
func (d *powerDisk) RemoveAll(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for n := range d.now {
		if n == name || strings.HasPrefix(n, name+"/") {
			d.rename(nameChange{n, nil})
		}
	}
	for n := range d.dirs {
		if n == name || strings.HasPrefix(n, name+"/") {
			delete(d.dirs, n)
		}
	}
	return nil
}

// MkdirAll implements vfs.FS.
func (d *powerDisk) MkdirAll(name string, _ os.FileMode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for ; name != "/" && name != "."; name = path.Dir(name) {
		d.dirs[name] = true
	}
	return nil
}

// Lock implements vfs.FS.
func (d *powerDisk) Lock(name string) (io.Closer, error) { return d.Create(name) }

// List implements vfs.FS.
func (d *powerDisk) List(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	add := func(n string) {
		if path.Dir(n) == path.Clean(dir) && n != "/" {
			out = append(out, path.Base(n))
		}
	}
	for n := range d.now {
		add(n)
	}
	for n := range d.dirs {
		add(n)
	}
	return out, nil
}

// Stat implements vfs.FS.
func (d *powerDisk) Stat(name string) (os.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ino := d.now[name]; ino != nil {
		return powerInfo{path.Base(name), int64(len(ino.data)), false}, nil
	}
	if d.dirs[name] {
		return powerInfo{path.Base(name), 0, true}, nil
	}
	return nil, notExist("stat", name)
}

// Link implements vfs.FS.
func (d *powerDisk) Link(string, string) error { return errors.ErrUnsupported }

// PathBase implements vfs.FS.
func (d *powerDisk) PathBase(p string) string { return path.Base(p) }

// PathJoin implements vfs.FS.
func (d *powerDisk) PathJoin(elem ...string) string { return path.Join(elem...) }

// PathDir implements vfs.FS.
func (d *powerDisk) PathDir(p string) string { return path.Dir(p) }

// GetDiskUsage implements vfs.FS.
func (d *powerDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{}, errors.ErrUnsupported
}
