//! Monitoring: dashboards, rules and documentation agree with the exported metrics, a real Prometheus accepts them, and
//! every panel has data of a working site.

// A failed step has to stop its test with its cause; these lints are for the program itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_possible_wrap)]

#[path = "dashboards/boards.rs"]
mod boards;
#[path = "dashboards/lint.rs"]
mod lint;
#[path = "dashboards/live.rs"]
mod live;
#[path = "dashboards/names.rs"]
mod names;
#[path = "dashboards/prometheus.rs"]
mod prometheus;
#[path = "dashboards/promql.rs"]
mod promql;
#[path = "dashboards/report.rs"]
mod report;
#[path = "dashboards/rules.rs"]
mod rules;
