//! Why a message was not sent.

use stackferry_problem::Problem;

/// Why a message was not taken.
#[derive(Debug)]
pub struct SendFailure {
    pub problem: Problem,
    /// It was refused for what it is: another one may well be taken.
    pub for_itself: bool,
}

impl From<Problem> for SendFailure {
    fn from(problem: Problem) -> Self {
        Self { problem, for_itself: false }
    }
}
