//! The migrations are compiled in: a changed one makes a new program.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
