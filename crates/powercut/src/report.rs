//! What a campaign did, so that it can be told whether enough happened in it.

use std::fmt;

/// Figures of a campaign.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Disks that began empty.
    pub worlds: u64,
    /// Power cuts, each followed by a start and a check.
    pub cuts: u64,
    /// Of them, while the log was written or synced.
    pub in_commit: u64,
    /// While the database file was written or synced.
    pub in_checkpoint: u64,
    /// While a store was made or files were named.
    pub in_creation: u64,
    /// While nothing was written.
    pub at_rest: u64,
    /// Unsynced writes that survived a cut, that vanished, and that were torn.
    pub kept: u64,
    /// See `kept`.
    pub lost: u64,
    /// See `kept`.
    pub torn: u64,
    /// Events, outcomes and manual retries that the store acknowledged.
    pub accepted: u64,
    /// See `accepted`.
    pub recorded: u64,
    /// See `accepted`.
    pub retried: u64,
    /// Partners that were erased, after each of which the log is cut to nothing.
    pub erased: u64,
    /// Calls that were refused because the disk was full.
    pub refused: u64,
    /// Calls that had no answer when the power was cut, and how many were found whole or absent afterwards.
    pub in_doubt: u64,
    /// See `in_doubt`.
    pub whole: u64,
    /// See `in_doubt`.
    pub absent: u64,
    /// Acknowledged events that were compared byte for byte after a start.
    pub events_checked: u64,
    /// Acknowledged attempts that were compared after a start.
    pub attempts_checked: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { worlds, cuts, in_commit, in_checkpoint, in_creation, at_rest, .. } = self;
        writeln!(f, "cuts           {cuts:>12}   on {worlds} disks")?;
        writeln!(
            f,
            "  within       {in_commit:>12}   commits, {in_checkpoint} checkpoints, {in_creation} creations; {at_rest} at rest"
        )?;
        let Self { kept, lost, torn, accepted, recorded, retried, erased, refused, .. } = self;
        writeln!(f, "torn writes    {torn:>12}   {lost} vanished, {kept} survived without a sync")?;
        writeln!(
            f,
            "acknowledged   {accepted:>12}   events, {recorded} outcomes, {retried} manual retries, {erased} erasures; {refused} calls refused by a full disk"
        )?;
        let Self { in_doubt, whole, absent, events_checked, attempts_checked, .. } = self;
        writeln!(
            f,
            "in doubt       {in_doubt:>12}   calls; of those, and of removals, {whole} were whole and {absent} absent"
        )?;
        write!(
            f,
            "checked        {events_checked:>12}   acknowledged events and {attempts_checked} attempts, after the starts"
        )
    }
}
