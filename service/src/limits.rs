//! What the system allows this process, as far as the program itself can change or survive it.

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

/// Raises the number of files that may be open to the most that is allowed: a restore of a disk in 520 extents has more than
/// a thousand open, and the usual limit for programs that use `select` is 1,024. This one does not use it.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Where it is refused, the limit is what it was.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// Lets writing beyond a limit on the length of files be an error of that write (`EFBIG`): by default the signal `SIGXFSZ` ends
/// the process. A handler is enough; what the signal says, the error says too. It is to be kept as long as anything is written.
pub(crate) fn survive_file_size_limit() -> std::io::Result<Listener> {
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))
}
