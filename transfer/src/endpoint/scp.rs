//! SCP's source side (`scp -f`), for stock clients: `scp -O` asks for it.

use std::sync::Arc;

use bytes::Bytes;
use stackferry_volume::Source;

use super::EndpointState;
use super::channel::{Gone, ServerChannel};
use super::grants::{GrantTarget, Granted};
use super::send::open;

/// The bytes read and sent at a time.
const PIECE: usize = 256 << 10;

/// A client's options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScpOptions {
    /// `-p`: its times.
    times: bool,
}

/// The options of the command that a client's `scp -O` sends to read this file: `scp`, options with `-f` and without `-t`
/// and `-r`, optionally `--`, and the path, optionally in single quotes. None for any other command. No shell is involved.
pub(super) fn options_for(command: &[u8], target: &GrantTarget) -> Option<ScpOptions> {
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
    is_this.then_some(ScpOptions { times })
}

/// A path as one word of a POSIX shell: in single quotes, with each single quote taken out of them.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', "'\\''"))
}

pub(super) async fn serve(
    mut channel: ServerChannel,
    shared: Arc<EndpointState>,
    granted: Granted,
    options: ScpOptions,
) {
    let status = match send(&mut channel, &shared, &granted, options).await {
        Ok(()) => 0,
        Err(ScpError::Gone) => 1,
        Err(ScpError::Report(message)) => {
            tracing::warn!(user = granted.user, path = granted.target.shown_path(), why = message, "scp ended");
            let message = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
            // Whether the client still receives it makes no difference.
            let _ = channel.send(Bytes::from(format!("\x02scp: {message}\n"))).await;
            1
        }
    };
    channel.finish(status).await;
}

enum ScpError {
    /// The client is gone, or the protocol can't report the error.
    Gone,
    /// Reported to the client.
    Report(String),
}

impl From<Gone> for ScpError {
    fn from(_: Gone) -> Self {
        ScpError::Gone
    }
}

async fn send(
    channel: &mut ServerChannel,
    shared: &Arc<EndpointState>,
    granted: &Granted,
    options: ScpOptions,
) -> Result<(), ScpError> {
    let target = granted.target.clone();
    let opened = tokio::task::spawn_blocking({
        let shared = Arc::clone(shared);
        move || open(&shared, &target)
    });
    let source = opened
        .await
        .map_err(|_| ScpError::Report("the endpoint failed".to_owned()))?
        .map_err(|error| ScpError::Report(error.message))?;
    let source = Arc::new(source);
    acknowledged(channel).await?;
    let path = &granted.target.path;
    let name = path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name);
    // A newline in the name would be read as the protocol's next line.
    if name.chars().any(char::is_control) {
        return Err(ScpError::Report(
            "a file with control characters in its name can't be sent by scp; use sftp".to_owned(),
        ));
    }
    if options.times {
        let stamp = source.stamp();
        let (stamp, _) =
            stamp.map_err(|error| ScpError::Report(format!("its time of last change can't be read: {error}")))?;
        // Whole seconds from 1970 on, of last change and of last use, as OpenSSH sends them.
        let seconds = stamp.mtime.as_second().max(0);
        channel.send(Bytes::from(format!("T{seconds} 0 {seconds} 0\n"))).await?;
        acknowledged(channel).await?;
    }
    channel.send(Bytes::from(format!("C0400 {} {name}\n", source.bytes()))).await?;
    acknowledged(channel).await?;
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
        // The length was announced: a read error ends the connection, since the protocol can't report it in between.
        let piece = reading.await.map_err(|_| ScpError::Gone)?.map_err(|_| ScpError::Gone)?;
        tokio::select! {
            sent = channel.send(Bytes::from(piece)) => sent?,
            () = channel.client_finished() => return Err(ScpError::Gone),
        }
        at += len as u64;
    }
    channel.send(Bytes::from_static(b"\0")).await?;
    acknowledged(channel).await
}

/// Waits for the client's zero byte.
async fn acknowledged(channel: &mut ServerChannel) -> Result<(), ScpError> {
    match channel.next().await {
        Some(data) if data.as_ref() == b"\0" => Ok(()),
        Some(_) => Err(ScpError::Report("the client's answer is no acknowledgement".to_owned())),
        None => Err(ScpError::Gone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_that_read_this_file_are_accepted() {
        let target = GrantTarget { datastore: "nfs01".into(), path: "apps/it's a.vmdk".into(), identity: Some((0, 0)) };
        for (good, times) in [
            ("scp -f /nfs01/apps/it's a.vmdk", false),
            ("scp -f '/nfs01/apps/it'\\''s a.vmdk'", false),
            ("scp -q -p -f -- /nfs01/apps/it's a.vmdk", true),
            ("scp -pf /nfs01/apps/it's a.vmdk", true),
        ] {
            assert_eq!(options_for(good.as_bytes(), &target), Some(ScpOptions { times }), "{good}");
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
