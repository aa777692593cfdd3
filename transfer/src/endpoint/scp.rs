//! SCP's source side (`scp -f`), for stock clients: `scp -O` asks for it.

use std::sync::Arc;

use bytes::Bytes;
use stackferry_volume::Source;

use super::Shared;
use super::grants::{Granted, Target};
use super::line::{Gone, Line};
use super::send::open;

/// The bytes read and sent at a time.
const PIECE: usize = 256 << 10;

/// What a client asks for beside the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Options {
    /// `-p`: its times.
    times: bool,
}

/// The options of the command that a client's `scp -O` sends to read this file: `scp`, options of which `-f` must be
/// one and `-t` and `-r` none, perhaps `--`, and the path, perhaps in single quotes. None for any other command. No shell
/// is involved.
pub(super) fn options_for(command: &[u8], target: &Target) -> Option<Options> {
    let mut rest = std::str::from_utf8(command).ok()?.strip_prefix("scp ")?.trim_start();
    let (mut reads, mut times) = (false, false);
    while let Some(options) = rest.strip_prefix('-') {
        let (word, after) = options.split_once(' ').unwrap_or((options, ""));
        match word {
            "-" => {
                rest = after.trim_start();
                break;
            }
            _ if !word.is_empty() && word.chars().all(|option| "fpqv".contains(option)) => {
                reads |= word.contains('f');
                times |= word.contains('p');
            }
            _ => return None,
        }
        rest = after.trim_start();
    }
    let path = target.shown_path();
    let is_this = reads && [path.clone(), format!("'{path}'"), quoted(&path)].iter().any(|form| form == rest);
    is_this.then_some(Options { times })
}

/// A path as one word of a POSIX shell: in single quotes, with each single quote taken out of them.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', "'\\''"))
}

pub(super) async fn serve(mut line: Line, shared: Arc<Shared>, granted: Granted, options: Options) {
    let status = match send(&mut line, &shared, &granted, options).await {
        Ok(()) => 0,
        Err(Stop::Gone) => 1,
        Err(Stop::Tell(message)) => {
            tracing::warn!(user = granted.user, path = granted.target.shown_path(), why = message, "scp ended");
            let message = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
            // Whether the client still hears it makes no difference.
            let _ = line.put(Bytes::from(format!("\x02scp: {message}\n"))).await;
            1
        }
    };
    line.finish(status).await;
}

enum Stop {
    /// The client is not there any more, or can't be told.
    Gone,
    /// The client is told.
    Tell(String),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Stop::Gone
    }
}

async fn send(line: &mut Line, shared: &Arc<Shared>, granted: &Granted, options: Options) -> Result<(), Stop> {
    let target = granted.target.clone();
    let opened = tokio::task::spawn_blocking({
        let shared = Arc::clone(shared);
        move || open(&shared, &target)
    });
    let source = opened
        .await
        .map_err(|_| Stop::Tell("the endpoint failed".to_owned()))?
        .map_err(|error| Stop::Tell(error.message))?;
    let source = Arc::new(source);
    acknowledged(line).await?;
    let path = &granted.target.path;
    let name = path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name);
    // A line's end in the name would be read as the protocol's next line.
    if name.chars().any(char::is_control) {
        return Err(Stop::Tell("a file with control characters in its name can't be sent by scp; use sftp".to_owned()));
    }
    if options.times {
        let stamp = source.stamp();
        let (stamp, _) =
            stamp.map_err(|error| Stop::Tell(format!("its time of last change can't be read: {error}")))?;
        // Whole seconds from 1970 on, of last change and of last use, as OpenSSH sends them.
        let seconds = stamp.mtime.as_second().max(0);
        line.put(Bytes::from(format!("T{seconds} 0 {seconds} 0\n"))).await?;
        acknowledged(line).await?;
    }
    line.put(Bytes::from(format!("C0400 {} {name}\n", source.bytes()))).await?;
    acknowledged(line).await?;
    let mut at = 0;
    while at < source.bytes() {
        let len = usize::try_from(source.bytes() - at).unwrap_or(PIECE).min(PIECE);
        let reading = tokio::task::spawn_blocking({
            let source = Arc::clone(&source);
            move || {
                let mut piece = vec![0u8; len];
                source.read_at(at, &mut piece).map(|()| piece)
            }
        });
        // The length was announced: what can't be read ends the connection, for there is no way to say so in between.
        let piece = reading.await.map_err(|_| Stop::Gone)?.map_err(|_| Stop::Gone)?;
        tokio::select! {
            sent = line.put(Bytes::from(piece)) => sent?,
            () = line.hung_up() => return Err(Stop::Gone),
        }
        at += len as u64;
    }
    line.put(Bytes::from_static(b"\0")).await?;
    acknowledged(line).await
}

/// Waits for the client's zero byte.
async fn acknowledged(line: &mut Line) -> Result<(), Stop> {
    match line.next().await {
        Some(data) if data.as_ref() == b"\0" => Ok(()),
        Some(_) => Err(Stop::Tell("the client said something else than go on".to_owned())),
        None => Err(Stop::Gone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reading_this_file_is_understood() {
        let target = Target { datastore: "nfs01".into(), path: "apps/it's a.vmdk".into(), identity: Some((0, 0)) };
        for (good, times) in [
            ("scp -f /nfs01/apps/it's a.vmdk", false),
            ("scp -f '/nfs01/apps/it'\\''s a.vmdk'", false),
            ("scp -q -p -f -- /nfs01/apps/it's a.vmdk", true),
            ("scp -pf /nfs01/apps/it's a.vmdk", true),
        ] {
            assert_eq!(options_for(good.as_bytes(), &target), Some(Options { times }), "{good}");
        }
        for bad in [
            "scp -t /nfs01/apps/it's a.vmdk",
            "scp -f -t /nfs01/apps/it's a.vmdk",
            "scp -r -f /nfs01/apps/it's a.vmdk",
            "scp /nfs01/apps/it's a.vmdk",
            "scp -f /nfs01/apps/other.vmdk",
            "scp -f /nfs01/apps/it's a.vmdk /etc/passwd",
            "scp -f /nfs01/apps/it's a.vmdk; id",
            "sh -c id",
            "",
        ] {
            assert_eq!(options_for(bad.as_bytes(), &target), None, "{bad}");
        }
    }
}
