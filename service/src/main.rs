//! The `stackferry` program. Everything is in the library, so that the lab can be the program too.

/// Copies pass blocks of a megabyte through many threads; this allocator takes them a good third faster than glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    stackferry_service::main(std::env::args_os())
}
