import fcntl,hashlib,os,stat,struct,sys
root,folder,name,temp,mark,size,mtime=sys.argv[1:8]
def say(*w):
 print(*w,flush=True)
def ours(n):
 try:
  s=os.stat(n,dir_fd=d,follow_symlinks=False)
  t=os.fstat(f)
  return (s.st_dev,s.st_ino)==(t.st_dev,t.st_ino)
 except OSError:
  return False
def need(n):
 b=sys.stdin.buffer.read(n)
 if len(b)!=n:
  raise EOFError
 return b
f=None
kept=False
way=os.O_RDONLY|os.O_DIRECTORY
try:
 d=os.open(root,way)
 for p in folder.split("/"):
  if p:
   try:
    n=os.open(p,way|os.O_NOFOLLOW,dir_fd=d)
   except FileNotFoundError:
    try:
     os.mkdir(p,0o755,dir_fd=d)
    except FileExistsError:
     pass
    os.fsync(d)
    n=os.open(p,way|os.O_NOFOLLOW,dir_fd=d)
   os.close(d)
   d=n
 try:
  os.stat(name,dir_fd=d,follow_symlinks=False)
  raise FileExistsError(17,name)
 except FileNotFoundError:
  pass
 a=os.open(".",way,dir_fd=d)
 try:
  fcntl.flock(a,fcntl.LOCK_EX)
  for n in os.listdir(d):
   t=n[len(mark):][:17]
   if n.startswith(mark) and len(t)==17 and t[16]=="-" and all(c in "0123456789abcdef" for c in t[:16]):
    try:
     o=os.open(n,os.O_RDWR|os.O_NOFOLLOW|os.O_NONBLOCK,dir_fd=d)
    except OSError:
     continue
    try:
     if stat.S_ISREG(os.fstat(o).st_mode):
      fcntl.flock(o,fcntl.LOCK_EX|fcntl.LOCK_NB)
      os.unlink(n,dir_fd=d)
    except OSError:
     pass
    os.close(o)
 except OSError:
  pass
 f=os.open(temp,os.O_RDWR|os.O_CREAT|os.O_EXCL|os.O_NOFOLLOW,0o600,dir_fd=d)
 try:
  fcntl.flock(f,fcntl.LOCK_EX|fcntl.LOCK_NB)
 except OSError:
  pass
 os.close(a)
 os.ftruncate(f,int(size))
 v=os.fstatvfs(f)
 say(1,v.f_bavail*v.f_frsize)
 ranges=[]
 dirty=0
 while True:
  at,n=struct.unpack("<qI",need(12))
  if at<0:
   break
  if ranges and ranges[-1][1]==at:
   ranges[-1][1]+=n
  else:
   ranges.append([at,at+n])
  b=memoryview(need(n))
  while len(b):
   k=os.pwrite(f,b,at)
   at+=k
   b=b[k:]
  dirty+=n
  if dirty>=1<<25:
   os.fdatasync(f)
   dirty=0
   say(0)
 os.utime(f,ns=(int(mtime),int(mtime)))
 os.fsync(f)
 os.posix_fadvise(f,0,0,os.POSIX_FADV_DONTNEED)
 h=hashlib.sha256()
 count=0
 for at,end in ranges:
  while at<end:
   b=os.pread(f,min(1<<20,end-at),at)
   if not b:
    raise EOFError
   h.update(b)
   at+=len(b)
   count+=len(b)
   if count>=1<<27:
    count=0
    say(0)
 s=os.fstat(f)
 say(2,h.hexdigest(),s.st_size,s.st_blocks*512)
 if need(1)!=b"N":
  raise EOFError
 try:
  os.link(temp,name,src_dir_fd=d,dst_dir_fd=d,follow_symlinks=False)
 except OSError:
  if not ours(name):
   raise
 os.unlink(temp,dir_fd=d)
 os.fsync(d)
 say(3)
 if need(1)!=b"K":
  raise EOFError
 kept=True
 say(4)
except OSError as e:
 say(-1,e.errno or 5)
except EOFError:
 pass
finally:
 if f is not None and not kept:
  for n in (name,temp):
   try:
    if ours(n):
     os.unlink(n,dir_fd=d)
   except OSError:
    pass
