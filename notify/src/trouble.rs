//! What can be wrong, and what is said of it: one table. `docs/notifications.md` lists it; words are added, never renamed.

use serde::{Deserialize, Serialize};

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProblemSeverity {
    /// Somebody has to do something now.
    Critical,
    /// Somebody has to do something soon.
    Warning,
}

impl ProblemSeverity {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

/// When it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReportWhen {
    /// When it is found.
    Now,
    /// When it has lasted for `settle`.
    Settled,
}

/// What is known of a trouble. The texts hold `#` where the number stands.
#[derive(Debug)]
pub(crate) struct TroubleRow {
    pub trouble: Trouble,
    pub word: &'static str,
    pub severity: ProblemSeverity,
    pub told: ReportWhen,
    /// What is wrong: of one, and of many.
    pub is: [&'static str; 2],
    /// What is right again: of one, and of many.
    pub over: [&'static str; 2],
    pub hint: &'static str,
}

macro_rules! troubles {
    ($($name:ident $word:literal $severity:ident $told:ident
        [$one:literal, $many:literal] [$over:literal, $all_over:literal] $hint:literal;)+) => {
        /// Something that can be wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Trouble {
            $(#[doc = $one] $name,)+
        }

        /// Every trouble, the worst first.
        pub(crate) const TROUBLES: &[TroubleRow] = &[$(TroubleRow {
            trouble: Trouble::$name,
            word: $word,
            severity: ProblemSeverity::$severity,
            told: ReportWhen::$told,
            is: [$one, $many],
            over: [$over, $all_over],
            hint: $hint,
        },)+];

        impl Trouble {
            /// What is known of it.
            pub(crate) fn row(self) -> &'static TroubleRow {
                match self {
                    $(Self::$name => &const { TroubleRow {
                        trouble: Trouble::$name,
                        word: $word,
                        severity: ProblemSeverity::$severity,
                        told: ReportWhen::$told,
                        is: [$one, $many],
                        over: [$over, $all_over],
                        hint: $hint,
                    } },)+
                }
            }
        }
    };
}

troubles! {
    Incident "incident" Critical Now
        ["1 volume changed unexpectedly", "# volumes changed unexpectedly"]
        ["1 volume is again as it should be", "# volumes are again as they should be"]
        "Find out who changed it. Versions from before are kept: compare, and restore the last good one if nobody meant it. The console lists them under Incidents.";
    VersionDamaged "version_damaged" Critical Now
        ["1 volume has a damaged version", "# volumes have damaged versions"]
        ["1 volume has no damaged version any more", "# volumes have no damaged version any more"]
        "Look for failing disks below the vault. `stackferry verify VOLUME` tells which blocks; where no other version is good the volume is copied again.";
    VersionUnusable "version_unusable" Critical Now
        ["1 volume has a version that can't be used as a disk", "# volumes have versions that can't be used as disks"]
        ["1 volume has no unusable version any more", "# volumes have no unusable version any more"]
        "The disk is as it was at the source, and no machine could use it: look at the volume itself in App Volumes. Older versions may be good.";
    VaultAway "vault_away" Critical Settled
        ["the vault can't be used", "# vaults can't be used"]
        ["the vault can be used again", "# vaults can be used again"]
        "Is it mounted, and does its disk answer? `stackferry check` tells what is wrong. Nothing is copied meanwhile.";
    VaultFull "vault_full" Critical Settled
        ["the vault is full", "# vaults are full"]
        ["the vault has room again", "# vaults have room again"]
        "Make its file system larger, or keep fewer versions in [retention]. No copy begins meanwhile.";
    DiscoveryFailing "discovery_failing" Critical Settled
        ["no round of discovery succeeds", "# rounds of discovery do not succeed"]
        ["rounds of discovery succeed again", "# rounds of discovery succeed again"]
        "`stackferry check` tries everything and tells what is wrong. Changes are not seen meanwhile.";
    CredentialLeft "credential_left" Critical Settled
        ["1 account of a copy was left behind at a host", "# accounts of copies were left behind at hosts"]
        ["1 account that was left behind is gone", "# accounts that were left behind are gone"]
        "Each round tries to remove it; the log says why it does not work. Remove it by hand if the host is gone for good.";
    NeverCopied "never_copied" Warning Settled
        ["1 volume was never copied", "# volumes were never copied"]
        ["1 volume that was never copied is no longer so", "# volumes that were never copied are no longer so"]
        "`stackferry jobs --all` and the volume's page in the console say why its copies fail or do not begin.";
    Overdue "overdue" Warning Settled
        ["1 volume is overdue", "# volumes are overdue"]
        ["1 volume is no longer overdue", "# volumes are no longer overdue"]
        "Its newest version is too old. `stackferry jobs --all` and the volume's page in the console say why its copies fail or do not begin.";
    Held "held" Warning Settled
        ["1 volume is overdue since it is never free", "# volumes are overdue since they are never free"]
        ["1 volume is no longer held up", "# volumes are no longer held up"]
        "It is attached, locked or out of reach whenever it is to be copied. Ask its user to log off; see that its hosts answer.";
    Unprotectable "unprotectable" Warning Settled
        ["1 volume is not supported: action needed", "# volumes are not supported: action needed"]
        ["1 volume is no longer unprotectable", "# volumes are no longer unprotectable"]
        "Its reason says what has to be changed; `stackferry discover` lists reasons and remedies.";
    Conflict "conflict" Warning Settled
        ["sources contradict each other about 1 volume", "sources contradict each other about # volumes"]
        ["sources agree again about 1 volume", "sources agree again about # volumes"]
        "Find out in App Volumes which disk is right. All are copied meanwhile.";
    DatastoreAway "datastore_away" Warning Settled
        ["1 datastore can't be looked at", "# datastores can't be looked at"]
        ["1 datastore can be looked at again", "# datastores can be looked at again"]
        "See that its host and mount are up; `stackferry check` tells what is wrong. What changes there is not copied meanwhile.";
    SystemAway "system_away" Warning Settled
        ["1 system does not answer", "# systems do not answer"]
        ["1 system answers again", "# systems answer again"]
        "See that it is up and that the login still works: `stackferry check`. Writables of its site wait meanwhile.";
    JobFailed "job_failed" Warning Now
        ["1 job failed", "# jobs failed"]
        ["1 job that failed was done since, or is a day old", "# jobs that failed were done since, or are a day old"]
        "`stackferry jobs --all` lists it with its reason. Restores and verifications that somebody asked for are not tried again by themselves.";
    VaultNearlyFull "vault_nearly_full" Warning Settled
        ["the vault is nearly full", "# vaults are nearly full"]
        ["the vault has enough room again", "# vaults have enough room again"]
        "Make its file system larger, or keep fewer versions in [retention], before copies can't begin any more.";
    NotPutBack "not_put_back" Warning Settled
        ["1 change at another system is not put back", "# changes at other systems are not put back"]
        ["1 change at another system is put back", "# changes at other systems are put back"]
        "Each round tries; the log says why it does not work. A writable that stays disabled can be enabled in App Volumes.";
    PruneFrozen "prune_frozen" Warning Settled
        ["retention deletes nothing since the clock jumped", "retention deletes nothing (# reasons)"]
        ["retention deletes again", "retention deletes again (# reasons)"]
        "Look at the machine's clock, then run `stackferry prune --confirm-clock`.";
    ConfigRefused "config_refused" Warning Settled
        ["the configuration was refused, and the old one goes on", "# configurations were refused"]
        ["the configuration is good again", "# configurations are good again"]
        "The log says what is wrong with it; `stackferry check --config-only` does, too. Then reload the service.";
    NotificationsFail "notifications_fail" Warning Settled
        ["messages do not arrive by 1 way", "messages do not arrive by # ways"]
        ["messages arrive again by 1 way", "messages arrive again by # ways"]
        "`stackferry notify test` tells what is wrong.";
}

impl Trouble {
    /// The trouble of this word; none where a newer program wrote it.
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        TROUBLES.iter().find(|row| row.word == word).map(|row| row.trouble)
    }

    /// What is wrong with so many.
    pub(crate) fn is(self, count: usize) -> String {
        counted(self.row().is, count)
    }

    /// What is right again with so many.
    pub(crate) fn over(self, count: usize) -> String {
        counted(self.row().over, count)
    }
}

fn counted([one, many]: [&str; 2], count: usize) -> String {
    if count == 1 { one.to_owned() } else { many.replace('#', &count.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_has_its_words() {
        for row in TROUBLES {
            assert_eq!(Trouble::from_word(row.word), Some(row.trouble));
            assert_eq!(row.trouble.row().word, row.word);
            for [one, many] in [row.is, row.over] {
                assert!(!one.contains('#') && many.contains('#'), "{}", row.word);
            }
            assert!(row.hint.ends_with('.'), "{}", row.word);
        }
        assert_eq!(Trouble::from_word("of_tomorrow"), None);
        assert_eq!(
            (Trouble::Overdue.is(1).as_str(), Trouble::Overdue.is(1000).as_str()),
            ("1 volume is overdue", "1000 volumes are overdue",)
        );
    }

    #[test]
    fn the_document_lists_every_trouble() {
        let text = include_str!("../../docs/notifications.md");
        let listed: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(word, _)| word)
            .filter(|word| Trouble::from_word(word).is_some())
            .collect();
        let all: Vec<&str> = TROUBLES.iter().map(|row| row.word).collect();
        assert_eq!(listed, all, "the table in docs/notifications.md, in the same order");
        for row in TROUBLES {
            let severity = row.severity.as_str();
            assert!(text.contains(&format!("| `{}` | {severity} |", row.word)), "{} is {severity}", row.word);
        }
    }
}
