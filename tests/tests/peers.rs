//! The stand-ins for vSphere behave as the systems they replace.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

mod peers {
    mod accounts;
    mod files;
    mod inventory;
    mod shell;
    mod soap;
}
