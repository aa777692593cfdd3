//! The forced commands, and the paths in them. The host's shell parses them, so a path is one word in single quotes,
//! absolute, and without the characters that are harmful in a log or a line whatever the quoting.

use std::path::Path;

use stackferry_volume::FolderError;

/// Reading by SFTP; a certificate can't be limited further: any file that the user may read.
pub(super) const SFTP_READ: &str = "internal-sftp -R";
/// Listing by SFTP: no file can be opened.
pub(super) const SFTP_LIST: &str = "internal-sftp -R -p realpath,stat,lstat,opendir,readdir,close";
/// The command requested where one is forced: the host does not run it, and would not find it if it did.
pub(super) const PLACEHOLDER: &str = "stackferry-forced-command";

/// The longest path on a host, in bytes (`PATH_MAX` of Linux).
const MAX_PATH: usize = 4096;

/// Exit status of [`head`]: the path is a symbolic link.
pub(super) const EXIT_LINK: u32 = 81;
/// Exit status of [`head`]: the path is no regular file.
pub(super) const EXIT_NO_FILE: u32 = 82;
/// Exit status of [`head`] and [`find`]: the path does not exist.
pub(super) const EXIT_NOTHING: u32 = 83;
/// Exit status of [`head`] and [`find`]: the datastore's own folder does not exist.
pub(super) const EXIT_NO_ROOT: u32 = 84;
/// The end marker of [`head`]: without it the output is truncated.
pub(super) const HEAD_END: &str = "stackferry-head-end";
/// The first line of a hole map.
pub(super) const MAP_GREETING: &str = "stackferry-map-1";

/// The hole map's program. It prints a greeting, then each range of data (`start end`), then `-1`, the length, the bytes on
/// disk and the time of last change. Neither quotes nor backslashes: it becomes one word of a shell.
const MAP_PROGRAM: &str = "import os,sys
print(GREETING)
f=os.open(sys.argv[1],os.O_RDONLY|os.O_NOFOLLOW)
n=os.fstat(f).st_size
a=0
while a<n:
 try:
  a=os.lseek(f,a,os.SEEK_DATA)
 except OSError as e:
  if e.errno!=6:
   raise
  break
 b=os.lseek(f,a,os.SEEK_HOLE)
 print(a,b)
 a=b
s=os.fstat(f)
print(-1,s.st_size,s.st_blocks*512,s.st_mtime_ns//10**9)";

/// The datastore's folder on the host, without a trailing slash.
pub(super) fn root(path: &Path) -> Result<String, FolderError> {
    let refused = |why| FolderError::Refused { path: path.display().to_string(), why };
    let text = path.to_str().ok_or_else(|| refused("the path is not UTF-8"))?;
    if !text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return Err(refused("the path on the host has to be absolute and plain"));
    }
    if text.contains(['\0', '\n', '\r']) || text.len() > MAX_PATH {
        return Err(refused("the path can't be put into a command"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// The path on the host of a path on the datastore, which may be empty. The root of the host's file system is `/`.
pub(super) fn path_below(root: &str, path: &str) -> Result<String, FolderError> {
    let refused = |why| FolderError::Refused { path: path.escape_debug().to_string(), why };
    if path.is_empty() {
        return Ok(if root.is_empty() { "/".to_owned() } else { root.to_owned() });
    }
    if path.contains(['\0', '\n', '\r']) || root.len() + path.len() + 1 > MAX_PATH {
        return Err(refused("the path can't be put into a command"));
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(refused("the path leaves the datastore or is not plain"));
    }
    Ok(format!("{root}/{path}"))
}

/// Quotes a text as one word of a POSIX shell.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Sends one file, with its time.
pub(crate) fn scp(path: &str) -> String {
    format!("scp -f -p -- {}", quoted(path))
}

/// Sends one file, to `scp -O`.
pub(super) fn scp_for_a_person(path: &str) -> String {
    format!("scp -f -- {}", quoted(path))
}

/// Prints a file's hole map.
pub(super) fn hole_map(path: &str) -> String {
    let greeting = MAP_GREETING.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(",");
    let program = MAP_PROGRAM.replace("GREETING", &format!("bytes([{greeting}]).decode()")).replace('\n', "\\n");
    format!("python3 -I -S -c {} {}", quoted(&format!("exec(\"{program}\")")), quoted(path))
}

/// Lists a folder, starting with the folder itself, or one file: `depth` 1 or 0. GNU find only. The last record is `end` and
/// the exit status of `find`: an empty output proves nothing, since some shells and commands print nothing and exit with 0.
pub(super) fn find(root: &str, path: &str, depth: u32) -> String {
    format!(
        "p={}; if [ ! -d {} ]; then exit {EXIT_NO_ROOT}; elif [ -e \"$p\" ] || [ -h \"$p\" ]; then env LC_ALL=C find \"$p\" -maxdepth {depth} \
         -ignore_readdir_race -printf '%d %y %s %b %T@ %i %f\\0'; s=$?; printf 'end %d\\0' \"$s\"; exit \"$s\"; else exit {EXIT_NOTHING}; fi",
        quoted(path),
        quoted_root(root)
    )
}

/// The first bytes of a regular file, and [`HEAD_END`].
pub(super) fn head(root: &str, path: &str, limit: usize) -> String {
    format!(
        "p={}; if [ ! -d {} ]; then exit {EXIT_NO_ROOT}; elif [ -h \"$p\" ]; then exit {EXIT_LINK}; elif [ -f \"$p\" ]; then head -c {limit} -- \"$p\" \
         && printf '%s' {HEAD_END}; elif [ -e \"$p\" ]; then exit {EXIT_NO_FILE}; else exit {EXIT_NOTHING}; fi",
        quoted(path),
        quoted_root(root)
    )
}

fn quoted_root(root: &str) -> String {
    quoted(if root.is_empty() { "/" } else { root })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        assert_eq!(root(Path::new("/mnt/nfs03/")).unwrap(), "/mnt/nfs03");
        assert_eq!(root(Path::new("/")).unwrap(), "");
        for bad in ["mnt", "", "/mnt/../etc", "/mnt\n", "/a\0b"] {
            assert!(root(Path::new(bad)).is_err(), "{bad:?}");
        }
        assert_eq!(path_below("/mnt", "a/b!5C!c.vmdk").unwrap(), "/mnt/a/b!5C!c.vmdk");
        assert_eq!(path_below("/mnt", "").unwrap(), "/mnt");
        assert_eq!(path_below("", "").unwrap(), "/");
        assert_eq!(path_below("", "a").unwrap(), "/a");
        for bad in ["/etc/passwd", "..", "a/../b", "a//b", "./a", "a/", "a\nb", "a\0b", "a\rb", &"x".repeat(4096)] {
            assert!(path_below("/mnt", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_shell_parses_any_quoted_path_as_one_word() {
        for path in ["/a b", "/it's", "/$(id)`id`", "/-rf", "/x!5C!y", "/ü*?[a]", "/\\'\"", "/;|&<>"] {
            let output = std::process::Command::new("/bin/sh")
                .arg("-c")
                .arg(format!("printf '%s.' {} end", quoted(path)))
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{path}.end."));
        }
    }

    #[test]
    fn the_program_is_harmless_to_a_shell() {
        assert!(!MAP_PROGRAM.contains(['\'', '"', '\\']));
        let command = hole_map("/x");
        assert!(!command.contains('\n'));
        assert!(command.ends_with("\")' '/x'"), "{command}");
    }
}
