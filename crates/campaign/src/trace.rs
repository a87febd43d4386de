//! What the database saw: who owned what when a life was over, and when it was free again; and every attempt of note.
//!
//! A trigger on `queue` notes each row that loses an owner who is not alive any more. That is exactly what the life held
//! when it ended, and what of it was in flight or unrecorded: a life that posts something owns its row until the outcome is
//! recorded. So a delivery without a record must be of such a row, or it has no excuse.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};

use crate::ledger::{Millis, Span};

/// Makes the notes begin. The service knows nothing of it.
pub(crate) const WATCH: &str = "
CREATE SCHEMA campaign;
CREATE TABLE campaign.freed (id uuid, life uuid, due bigint, accepted_at bigint, at bigint);
CREATE FUNCTION campaign.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NOT EXISTS (SELECT FROM capa_webhooks.nodes WHERE life = OLD.owner AND ended_at IS NULL) THEN
        INSERT INTO campaign.freed
        VALUES (OLD.id, OLD.owner, OLD.due, OLD.accepted_at, floor(extract(epoch FROM clock_timestamp()) * 1000));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER campaign AFTER UPDATE OF owner ON capa_webhooks.queue FOR EACH ROW
WHEN (OLD.owner IS NOT NULL AND NEW.owner IS NULL) EXECUTE FUNCTION campaign.note();";

const LIVES: &str = "SELECT life, begun_at, ended_at FROM capa_webhooks.nodes";
const FREED: &str = "SELECT id, life, due, accepted_at, at FROM campaign.freed ORDER BY at";
/// What was not simply sent at once, or is asked for.
const ATTEMPTS: &str = "
SELECT id, cycle, started_at, started_at + duration_us / 1000, http_status IS NOT NULL FROM capa_webhooks.attempts
WHERE id IN (SELECT id FROM campaign.freed UNION SELECT id FROM capa_webhooks.attempts WHERE class <> 'acked')
OR id = ANY ('{}')";
/// Cycles with more attempts than the schedule has, or in which one is missing between two.
const BEYOND_SCHEDULE: &str = "
SELECT id, cycle, count(DISTINCT number), max(number) FROM capa_webhooks.attempts GROUP BY partner, id, cycle
HAVING count(DISTINCT number) > 6 OR count(DISTINCT number) <> max(number)";
/// Attempts that began before they were due, by more than a node's clock may lag behind the database's: a node learns it
/// with a heartbeat, and is behind by what that took, which is at most a second.
const BEFORE_DUE: &str = "
SELECT a.id, a.cycle, b.number, a.next_due, b.started_at FROM capa_webhooks.attempts a
JOIN capa_webhooks.attempts b ON b.partner = a.partner AND b.id = a.id AND b.cycle = a.cycle AND b.number = a.number + 1
WHERE b.started_at < a.next_due - 1000";
/// How many attempts each life began after others had ended it.
const AFTER_THE_END: &str = "
SELECT n.life, count(*) FROM capa_webhooks.attempts a JOIN capa_webhooks.nodes n ON n.life = a.life
WHERE a.started_at > n.ended_at GROUP BY n.life";
/// One attempt may have passed the fence when the process was stopped between that look and its POST; two threads do not
/// stand in these few microseconds at once.
const MOST_AFTER_THE_END: u64 = 1;

/// One recorded attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) cycle: u64,
    pub(crate) ran: Span,
    /// Whether the receiver's answer came back. Otherwise the receiver may have read the request later.
    pub(crate) answered: bool,
}

/// A row that a life held when it was over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Freed {
    /// Which of the lives.
    pub(crate) life: usize,
    pub(crate) due: Millis,
    pub(crate) accepted_at: Millis,
    pub(crate) at: Millis,
}

/// A life of a node.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) id: String,
    pub(crate) begun: Millis,
    /// When it was ended, by itself or by others.
    pub(crate) ended: Option<Millis>,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) lives: Vec<Life>,
    /// By the notification's id.
    pub(crate) freed: HashMap<String, Vec<Freed>>,
    pub(crate) attempts: HashMap<String, Vec<Attempt>>,
}

impl Trace {
    /// Reads everything through `sql`, the attempts of these ids included, and checks what is to be checked over all rows.
    pub(crate) fn read(sql: impl Fn(&str) -> Result<String>, ids: &[String]) -> Result<Self> {
        for (what, question) in
            [("is not within its schedule", BEYOND_SCHEDULE), ("began before it was due", BEFORE_DUE)]
        {
            let found = sql(question)?;
            ensure!(found.is_empty(), "{what}: {}", found.lines().next().unwrap_or_default());
        }
        for row in sql(AFTER_THE_END)?.lines() {
            let [life, count] = fields(row)?;
            ensure!(number(count)? <= MOST_AFTER_THE_END, "the life {life} began {count} attempts after it was ended");
        }
        let mut trace = Self::default();
        for row in sql(LIVES)?.lines() {
            let [id, begun, ended] = fields(row)?;
            let ended = if ended.is_empty() { None } else { Some(number(ended)?) };
            trace.lives.push(Life { id: id.to_owned(), begun: number(begun)?, ended });
        }
        let places: HashMap<String, usize> =
            trace.lives.iter().enumerate().map(|(at, life)| (life.id.clone(), at)).collect();
        for row in sql(FREED)?.lines() {
            let [id, life, due, accepted_at, at] = fields(row)?;
            let life = *places.get(life).context("a row was freed of a life that never was")?;
            let freed = Freed { life, due: number(due)?, accepted_at: number(accepted_at)?, at: number(at)? };
            trace.freed.entry(id.to_owned()).or_default().push(freed);
        }
        for row in sql(&ATTEMPTS.replace("'{}'", &format!("'{{{}}}'", ids.join(","))))?.lines() {
            let [id, cycle, from, until, answered] = fields(row)?;
            let ran = Span { from: number(from)?, until: number(until)? };
            let attempt = Attempt { cycle: number(cycle)?, ran, answered: answered == "t" };
            trace.attempts.entry(id.to_owned()).or_default().push(attempt);
        }
        Ok(trace)
    }
}

/// The fields of a row as `psql` prints it.
fn fields<const COUNT: usize>(row: &str) -> Result<[&str; COUNT]> {
    let fields: Vec<&str> = row.split('|').collect();
    fields.try_into().ok().with_context(|| format!("a row of other fields: {row}"))
}

fn number(field: &str) -> Result<u64> {
    field.parse().with_context(|| format!("not a number: {field}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database that answers one question, and nothing to the others.
    fn only<'a>(question: &'a str, answer: &'a str) -> impl Fn(&str) -> Result<String> + 'a {
        move |asked| Ok(if asked == question { answer.to_owned() } else { String::new() })
    }

    #[test]
    fn rows_are_read() {
        let answer = |asked: &str| match asked {
            LIVES => "l1|1000|\nl2|1000|5000".to_owned(),
            FREED => "n|l2|2000|1500|6000".to_owned(),
            asked if asked == ATTEMPTS.replace("{}", "{n,m}") => "n|1|3000|3005|t".to_owned(),
            _ => String::new(),
        };
        let trace = Trace::read(|asked| Ok(answer(asked)), &["n".to_owned(), "m".to_owned()]).unwrap();
        assert_eq!((trace.lives[0].ended, trace.lives[1].ended), (None, Some(5000)));
        assert_eq!((trace.freed["n"][0].life, trace.freed["n"][0].at), (1, 6000));
        assert!(trace.attempts["n"][0].answered);
        assert!(Trace::read(only(FREED, "n|l9|2000|1500|6000"), &[]).is_err());
    }

    #[test]
    fn what_must_not_be_in_the_tables_is_found() {
        assert!(Trace::read(only(BEYOND_SCHEDULE, "n|1|7|7"), &[]).unwrap_err().to_string().contains("schedule"));
        assert!(Trace::read(only(BEFORE_DUE, "n|1|2|5|4"), &[]).unwrap_err().to_string().contains("due"));
        assert!(Trace::read(only(AFTER_THE_END, "l|1"), &[]).is_ok());
        assert!(Trace::read(only(AFTER_THE_END, "l|2"), &[]).unwrap_err().to_string().contains("2 attempts"));
    }
}
