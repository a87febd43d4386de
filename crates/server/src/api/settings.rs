//! Reading and showing webhook settings, for partners and for the platform alike.

use super::App;
use super::answer::{ApiError, Version};
use super::body::Object;
use capa_webhooks_core::duration::{parse_duration, show_duration};
use capa_webhooks_core::id::PartnerId;
use capa_webhooks_core::problem::{Problem, nearest};
use capa_webhooks_core::schedule::MOST_RETRIES;
use capa_webhooks_core::settings::{AckRule, MOST_IN_FLIGHT, RateLimit, Settings, SettingsChange};
use serde_json::{Value, json};
use std::num::NonZeroU16;
use std::time::Duration;

/// The fields that version 1 knows.
const V1_FIELDS: &[&str] = &["url"];
/// The fields that version 2 and the platform know.
const V2_FIELDS: &[&str] = &["url", "ackRule", "retryDelays", "attemptTimeout", "maxInFlight", "rateLimit", "events"];

/// The longest delay that a partner may choose.
const LONGEST_DELAY: Duration = Duration::from_secs(7 * 86_400);

/// The fields of a version.
pub(super) const fn fields(version: Version) -> &'static [&'static str] {
    match version {
        Version::V1 => V1_FIELDS,
        Version::V2 => V2_FIELDS,
    }
}

/// Reads a change of settings; `url` must be there.
pub(super) fn read(app: &App, object: &Object) -> Result<SettingsChange, ApiError> {
    let mut problems = Vec::new();
    let mut change = SettingsChange::default();
    match object.get("url") {
        None => problems.push(Problem::new("url", "Required: a URL, or null for none.")),
        Some(Value::Null) => change.url = Some(None),
        Some(Value::String(url)) => match app.destinations.check_url(url) {
            Ok(url) => change.url = Some(Some(url)),
            Err(wrong) => problems.extend(wrong),
        },
        Some(_) => problems.push(Problem::new("url", "Must be a string or null.")),
    }
    change.ack_rule = field(object, "ackRule", &mut problems, |value, _| {
        let rule = value.as_str().and_then(AckRule::from_name);
        rule.ok_or_else(|| vec![Problem::new("ackRule", "Must be \"200\", \"2xx\" or null.")])
    });
    change.retry_delays = field(object, "retryDelays", &mut problems, delays);
    change.attempt_timeout = field(object, "attemptTimeout", &mut problems, |value, name| {
        duration(value, name, Duration::from_secs(1), Duration::from_secs(30), "1s to 30s")
            .map_err(|problem| vec![problem])
    });
    change.max_in_flight = field(object, "maxInFlight", &mut problems, |value, name| {
        let most = value.as_u64().and_then(|most| u16::try_from(most).ok()).filter(|most| *most <= MOST_IN_FLIGHT);
        let expected =
            || vec![Problem::new(name, format!("Must be a whole number from 1 to {MOST_IN_FLIGHT}, or null."))];
        most.and_then(NonZeroU16::new).ok_or_else(expected)
    });
    change.rate_limit = field(object, "rateLimit", &mut problems, |value, name| {
        let expected =
            "Must be a number of attempts a second from 0.01 to 10000, with at most three decimals, or null.";
        value.as_f64().and_then(RateLimit::from_per_second).ok_or_else(|| vec![Problem::new(name, expected)])
    });
    change.events = field(object, "events", &mut problems, |value, name| events(app, value, name));
    if problems.is_empty() { Ok(change) } else { Err(ApiError::invalid(problems)) }
}

/// Carries out a change, and makes it effective before it is confirmed.
pub(super) async fn change(
    app: &App,
    partner: PartnerId,
    change: SettingsChange,
) -> Result<Option<Settings>, ApiError> {
    let settings = app.store.change_settings(partner, change, app.clock.now()).await?;
    app.directory.forget(partner);
    Ok(settings)
}

/// Settings as a version shows them.
pub(super) fn show(version: Version, partner: PartnerId, settings: &Settings) -> Value {
    let mut shown = json!({
        "id": settings.id.to_string(),
        "partnerId": partner.to_string(),
        "url": settings.url,
    });
    if version == Version::V2 {
        let choices = &settings.choices;
        let delays = choices.retry_delays.as_ref();
        shown["ackRule"] = json!(choices.ack_rule.map(AckRule::as_str));
        shown["retryDelays"] = json!(delays.map(|list| list.iter().copied().map(show_duration).collect::<Vec<_>>()));
        shown["attemptTimeout"] = json!(choices.attempt_timeout.map(show_duration));
        shown["maxInFlight"] = json!(choices.max_in_flight);
        shown["rateLimit"] = choices.rate_limit.map_or(Value::Null, rate);
        shown["events"] = json!(choices.events);
    }
    shown["createdAt"] = settings.created_at.to_settings_text().into();
    shown["updatedAt"] = settings.updated_at.to_settings_text().into();
    shown
}

/// A rate as people write it: whole where it is whole.
fn rate(limit: RateLimit) -> Value {
    let thousandths = limit.thousandths().get();
    if thousandths.is_multiple_of(1_000) { json!(thousandths / 1_000) } else { json!(limit.per_second()) }
}

/// An optional field: `None` if absent, `Some(None)` if null.
fn field<T>(
    object: &Object,
    name: &str,
    problems: &mut Vec<Problem>,
    read: impl FnOnce(&Value, &str) -> Result<T, Vec<Problem>>,
) -> Option<Option<T>> {
    match object.get(name)? {
        Value::Null => Some(None),
        value => match read(value, name) {
            Ok(value) => Some(Some(value)),
            Err(wrong) => {
                problems.extend(wrong);
                None
            }
        },
    }
}

fn duration(value: &Value, field: &str, least: Duration, most: Duration, bounds: &str) -> Result<Duration, Problem> {
    let text = value.as_str().ok_or_else(|| Problem::new(field, "Must be a string such as \"15s\", or null."))?;
    let duration = parse_duration(text).map_err(|wrong| Problem::new(field, format!("The value {wrong}.")))?;
    if (least..=most).contains(&duration) {
        Ok(duration)
    } else {
        Err(Problem::new(field, format!("Must be within {bounds}.")))
    }
}

fn delays(value: &Value, name: &str) -> Result<Vec<Duration>, Vec<Problem>> {
    let list = value.as_array().filter(|list| (1..=MOST_RETRIES as usize).contains(&list.len()));
    let Some(list) = list else {
        let expected = format!("Must be a list of 1 to {MOST_RETRIES} durations such as [\"10s\",\"1m\"], or null.");
        return Err(vec![Problem::new(name, expected)]);
    };
    each(list, |index, item| duration(item, &format!("{name}[{index}]"), Duration::ZERO, LONGEST_DELAY, "0s to 7d"))
}

fn events(app: &App, value: &Value, name: &str) -> Result<Vec<String>, Vec<Problem>> {
    let Some(list) = value.as_array().filter(|list| (1..=256).contains(&list.len())) else {
        return Err(vec![Problem::new(name, "Must be a list of at least one event name, or null for all events.")]);
    };
    let known: Vec<String> = app.catalogue.entries().map(|entry| entry.name.to_owned()).collect();
    each(list, |index, item| {
        let field = format!("{name}[{index}]");
        let event = item.as_str().ok_or_else(|| Problem::new(field.clone(), "Must be the name of an event."))?;
        if known.iter().any(|known| known == event) {
            return Ok(event.to_owned());
        }
        let hint = nearest(event, known.iter().map(String::as_str));
        let hint = hint.map_or_else(String::new, |known| format!(" Did you mean {known}?"));
        Err(Problem::new(field, format!("No event has this name.{hint}")))
    })
}

fn each<T>(list: &[Value], read: impl Fn(usize, &Value) -> Result<T, Problem>) -> Result<Vec<T>, Vec<Problem>> {
    let mut values = Vec::with_capacity(list.len());
    let mut problems = Vec::new();
    for (index, item) in list.iter().enumerate() {
        match read(index, item) {
            Ok(value) => values.push(value),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(values) } else { Err(problems) }
}
