//! The first page: is everything protected, and if not, what is to be done?

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use stackferry_catalog::{JobFilter, JobState};
use stackferry_volume::ReasonCode;

use super::jobs::{JobLine, lines};
use super::{Shell, answer};
use crate::api::status::{Counts, SpaceBody, StatusBody, gather};
use crate::console::text::{ShownTime, number, size, thousandths, volume_path};
use crate::console::user::User;
use crate::http::Web;
use stackferry_engine::attached_too_long;
use stackferry_engine::metrics::APP_VOLUMES;
use stackferry_problem::Problem;

/// So many running jobs are shown; more run only with large `limits`.
const RUNNING: u32 = 16;
/// So many jobs that failed are shown; Jobs has all.
const FAILED: usize = 5;
/// So many volumes that are never free are shown by name.
const HELD: u32 = 5;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    shell: Shell,
    now: Now,
}

/// The part of the page that keeps itself up to date.
#[derive(Template)]
#[template(path = "overview_part.html")]
struct OverviewPart {
    now: Now,
}

/// What both show.
struct Now {
    /// The whole in one sentence.
    verdict: String,
    tone: &'static str,
    /// What does not work.
    alarms: Vec<String>,
    cards: Vec<Card>,
    bar: Vec<BarSegment>,
    kinds: Vec<KindRow>,
    reasons: Vec<ReasonLine>,
    held: Option<HeldPart>,
    space: Option<SpaceLine>,
    running: Vec<JobLine>,
    queued: Option<String>,
}

struct Card {
    title: &'static str,
    count: String,
    what: String,
    href: &'static str,
    tone: &'static str,
}

/// A part of the bar: where it begins and how long it is, in thousandths.
struct BarSegment {
    class: &'static str,
    title: String,
    from: u64,
    length: u64,
}

struct KindRow {
    kind: String,
    counts: [String; 6],
    bytes: String,
}

struct ReasonLine {
    code: String,
    volumes: String,
    meaning: String,
    remedy: String,
    since: Option<ShownTime>,
}

/// Volumes that waiting does not help.
struct HeldPart {
    title: String,
    remedy: String,
    lines: Vec<HeldLine>,
    more: Option<String>,
}

struct HeldLine {
    href: String,
    name: String,
    state: String,
}

struct SpaceLine {
    free: String,
    total: String,
    used: u64,
    tone: &'static str,
}

pub(in crate::console) async fn page(State(web): State<Web>, Extension(user): Extension<User>) -> Response {
    let made = now(&web).await.map(|now| OverviewPage { shell: Shell::new(&user, "overview", "Overview"), now });
    answer(&user, made)
}

pub(in crate::console) async fn part(State(web): State<Web>, Extension(user): Extension<User>) -> Response {
    answer(&user, now(&web).await.map(|now| OverviewPart { now }))
}

async fn now(web: &Web) -> Result<Now, Problem> {
    let status = gather(web).await?;
    let (verdict, tone) = verdict(&status);
    let alarms = [
        status.vault_problem.as_ref().map(|why| format!("The vault can't be used: {why}")),
        status.discovery_problem.as_ref().map(|why| format!("Discovery does not work: {why}")),
        not_seen(&status),
        status
            .paused
            .as_ref()
            .map(|who| format!("Planned copies of all volumes are paused {who}. Resume them under Jobs.")),
        status.prune_frozen.as_ref().map(|why| {
            format!("Retention deletes nothing: {why}. Look at the clock, then run `stackferry prune --confirm-clock`.")
        }),
    ];
    let alarms = alarms.into_iter().flatten().chain(status.space.as_ref().and_then(below_reserve));
    let alarms: Vec<String> = alarms.chain(systems_down(&status)).chain(failed_jobs(&status)).collect();
    let kinds = status.kinds.iter().map(|(kind, counts)| KindRow {
        kind: kind.clone(),
        counts: [
            counts.total,
            counts.protected,
            counts.overdue,
            counts.never_copied,
            counts.deferred,
            counts.unprotectable,
        ]
        .map(number),
        bytes: size(counts.bytes),
    });
    let reasons = status.reasons.iter().map(|reason| ReasonLine {
        code: reason.code.clone(),
        volumes: number(reason.volumes),
        meaning: reason.meaning.clone(),
        remedy: reason.remedy.clone(),
        since: ShownTime::maybe(reason.since, status.now),
    });
    let filter = JobFilter { states: vec![JobState::Running], ..JobFilter::default() };
    let running = lines(web, &filter, RUNNING).await?;
    let waiting = web.app().catalog().job_counts().await?.get(JobState::Queued.as_str()).copied().unwrap_or(0);
    Ok(Now {
        held: held_now(web, &status).await?,
        running,
        queued: (waiting > 0).then(|| format!("{} in the queue.", number(waiting))),
        verdict,
        tone,
        alarms,
        cards: cards(&status),
        bar: bar(&status.volumes),
        kinds: kinds.collect(),
        reasons: reasons.collect(),
        space: status.space.as_ref().map(|space| {
            let used = thousandths(space.total.saturating_sub(space.free), space.total);
            let tone = if used >= 950 || space.free < space.reserve {
                "bad"
            } else if used >= 850 {
                "warn"
            } else {
                "good"
            };
            SpaceLine { free: size(space.free), total: size(space.total), used, tone }
        }),
    })
}

/// The volumes that somebody has attached for too long. Where nothing is, or not for so long, nothing is asked.
async fn held_now(web: &Web, status: &StatusBody) -> Result<Option<HeldPart>, Problem> {
    if !status.reasons.iter().any(|reason| reason.code == ReasonCode::Attached.as_str()) {
        return Ok(None);
    }
    let app = &web.app();
    let (volumes, total) = attached_too_long::all(app, status.now, HELD).await?;
    let lines: Vec<HeldLine> = volumes
        .iter()
        .map(|volume| HeldLine {
            href: volume_path(&volume.id),
            name: volume.owner.clone().unwrap_or_else(|| volume.name.clone()),
            state: attached_too_long::state(volume, status.now),
        })
        .collect();
    let more = total.saturating_sub(u64::try_from(lines.len()).unwrap_or(u64::MAX));
    Ok((total > 0).then(|| HeldPart {
        title: match total {
            1 => "1 volume is never free".to_owned(),
            _ => format!("{} volumes are never free", number(total)),
        },
        remedy: attached_too_long::remedy(app.config(), None, None),
        lines,
        more: (more > 0).then(|| format!("and {} more", number(more))),
    }))
}

fn verdict(status: &StatusBody) -> (String, &'static str) {
    let counts = &status.volumes;
    let are = |count: u64, one: &str, many: &str| match count {
        1 => format!("1 volume {one}"),
        _ => format!("{} volumes {many}", number(count)),
    };
    let mut parts = Vec::new();
    if counts.incidents > 0 {
        parts.push(are(counts.incidents, "changed unexpectedly", "changed unexpectedly"));
    }
    if counts.damaged > 0 {
        parts.push(are(counts.damaged, "has a damaged version", "have damaged versions"));
    }
    if counts.never_copied > 0 {
        parts.push(are(counts.never_copied, "was never copied", "were never copied"));
    }
    if counts.overdue > 0 {
        parts.push(are(counts.overdue, "is overdue", "are overdue"));
    }
    if counts.failing > 0 {
        parts.push(are(counts.failing, "failed at its last copy", "failed at their last copy"));
    }
    let unprotectable = counts.unprotectable.saturating_sub(backups(status));
    if unprotectable > 0 {
        parts.push(are(unprotectable, "is not supported: action needed", "are not supported: action needed"));
    }
    let bad = counts.incidents > 0 || counts.damaged > 0 || counts.never_copied > 0 || unprotectable > 0;
    let down = status.vault_problem.is_some()
        || status.discovery_problem.is_some()
        || !status.not_seen.is_empty()
        || status.space.as_ref().and_then(below_reserve).is_some()
        || status.systems.iter().any(|system| system.up == Some(false));
    match (parts.is_empty(), counts.total) {
        (true, 0) => ("No volume is known yet.".to_owned(), "quiet"),
        (true, _) if !down => ("Every volume that can be protected is.".to_owned(), "good"),
        (true, _) => ("Every known volume is protected, but something does not work.".to_owned(), "warn"),
        (false, _) => (format!("{}.", parts.join(", ")), if bad || down { "bad" } else { "warn" }),
    }
}

fn below_reserve(space: &SpaceBody) -> Option<String> {
    (space.free < space.reserve).then(|| {
        format!(
            "The vault is full: {} are free, and vault.reserve keeps {}. No copy begins. Enlarge its file system, or keep \
             fewer versions in [retention].",
            size(space.free),
            size(space.reserve)
        )
    })
}

/// Each system that did not answer, with its own words and what to do.
fn systems_down(status: &StatusBody) -> impl Iterator<Item = String> {
    status.systems.iter().filter(|system| system.up == Some(false)).map(|system| {
        let what = if system.kind == APP_VOLUMES { "The App Volumes Manager" } else { "vSphere" };
        match &system.problem {
            Some(problem) => {
                let hint = problem.hint.as_deref().unwrap_or("stackferry check tries it again");
                format!("{what} {} can't be used: {} ({}). {hint}.", system.name, problem.message, problem.code)
            }
            None => format!("{what} {} can't be used. Run `stackferry check`.", system.name),
        }
    })
}

fn failed_jobs(status: &StatusBody) -> impl Iterator<Item = String> {
    status.failed_jobs.iter().take(FAILED).map(|job| {
        let of = job.volume.as_deref().map(|volume| format!(" of {volume}")).unwrap_or_default();
        format!("The last {}{of} failed: {} ({}).", job.kind.replace('_', " "), job.message, job.code)
    })
}

/// What could not be looked at, in words.
fn not_seen(status: &StatusBody) -> Option<String> {
    let first = status.not_seen.first()?;
    let more = match status.not_seen.len() {
        1 => String::new(),
        all => format!(" (and {} more)", all - 1),
    };
    Some(format!("Not everything was looked at: {}: {}{more}. {}", first.subject, first.message, first.hint))
}

/// What App Volumes keeps as its own backups: they need no protection of their own.
fn backups(status: &StatusBody) -> u64 {
    let backups = status.reasons.iter().find(|reason| reason.code == ReasonCode::AppVolumesBackup.as_str());
    backups.map_or(0, |reason| reason.volumes)
}

fn cards(status: &StatusBody) -> Vec<Card> {
    let card = |title, count: u64, what: &str, href, tone| {
        let tone = if count == 0 { "quiet" } else { tone };
        Card { title, count: number(count), what: what.to_owned(), href, tone }
    };
    let (counts, backups) = (&status.volumes, backups(status));
    let unprotectable = match backups {
        0 => "something has to be changed".to_owned(),
        _ => {
            let others = number(counts.unprotectable.saturating_sub(backups));
            format!("to be changed: {others}; App Volumes' own backups: {}", number(backups))
        }
    };
    vec![
        card("Protected", counts.protected, "a good version, young enough", "/volumes?standing=protected", "good"),
        card(
            "Overdue",
            counts.overdue,
            "the newest version is too old",
            "/volumes?standing=overdue&order=oldest",
            "warn",
        ),
        card("Never copied", counts.never_copied, "no good version yet", "/volumes?standing=never_copied", "bad"),
        card("Deferred", counts.deferred, "postponed, with a reason", "/volumes?state=deferred&order=oldest", "warn"),
        card("Can't be protected", counts.unprotectable, &unprotectable, "/volumes?standing=unprotectable", "bad"),
        card("Failing", counts.failing, "the last attempt failed", "/volumes?failing=true", "bad"),
        card("Damaged", counts.damaged, "a version is damaged", "/volumes?damaged=true", "bad"),
        card("Incidents", counts.incidents, "changed unexpectedly", "/incidents", "bad"),
        card("Gone", counts.gone, "no longer at the source, kept", "/volumes?standing=gone", "quiet"),
    ]
}

fn bar(counts: &Counts) -> Vec<BarSegment> {
    let here = counts.total.saturating_sub(counts.gone);
    let mut from = 0;
    let mut parts = Vec::new();
    for (class, word, count) in [
        ("good", "protected", counts.protected),
        ("warn", "overdue", counts.overdue),
        ("bad", "never copied", counts.never_copied),
        ("dull", "can't be protected", counts.unprotectable),
    ] {
        // What is there is seen, however little it is.
        let length = if count == 0 { 0 } else { thousandths(count, here).max(6) };
        parts.push(BarSegment { class, title: format!("{} {word}", number(count)), from, length });
        from = from.saturating_add(length);
    }
    parts
}
