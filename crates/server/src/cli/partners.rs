//! `capa-webhooks partners`: partners, their keys and their URL.

use super::admin::Admin;
use super::keys::{WHERE, text};
use super::{load_config, with_settings};
use clap::{Arg, ArgMatches, Command};
use http::Method;
use serde_json::{Value, json};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  capa-webhooks partners create --name 'Acme Wallet' --url https://acme.example/webhooks
      Shows the partner's API key and webhook secret, once.
  capa-webhooks partners list
  capa-webhooks partners show 0199…
  capa-webhooks partners set-url 0199… https://acme.example/hooks/capa
  capa-webhooks partners disable 0199…      and: enable
  capa-webhooks partners add-key 0199…      and: revoke-key 0199… <key id>
  capa-webhooks partners erase 0199… --yes
      Destroys the partner's keys, secret and payloads for ever; keeps counts.

They work on a running service too: they find it at the configured address.";

pub(super) fn command() -> Command {
    let id = || Arg::new("id").required(true).help("The partner's id");
    let create = Command::new("create")
        .about("Make a partner; shows its API key and webhook secret once")
        .arg(Arg::new("name").long("name").required(true).help("Its name"))
        .arg(Arg::new("url").long("url").help("Where its notifications go; it can set that itself"))
        .arg(Arg::new("id").long("id").help("The id it already has elsewhere"))
        .arg(
            Arg::new("api-key")
                .long("api-key")
                .help("The API key it already has; better through the API than here, where others may see it"),
        )
        .arg(Arg::new("webhook-secret").long("webhook-secret").help("The webhook secret it already has; likewise"));
    let list = Command::new("list").about("List partners");
    let show = Command::new("show").about("Show a partner").arg(id());
    let set_url = Command::new("set-url")
        .about("Set a partner's URL, or `none`")
        .arg(id())
        .arg(Arg::new("url").required(true).help("The URL, or `none`"));
    let disable = Command::new("disable").about("Disable a partner: its calls are refused, nothing is sent").arg(id());
    let enable = Command::new("enable").about("Enable a partner").arg(id());
    let add_key = Command::new("add-key").about("Make a further API key for a partner; shows it once").arg(id());
    let revoke_key = Command::new("revoke-key")
        .about("Revoke an API key of a partner")
        .arg(id())
        .arg(Arg::new("key").required(true).help("The key's id: the part before the colon"));
    let erase = Command::new("erase")
        .about("Erase a partner for ever")
        .arg(id())
        .arg(Arg::new("yes").long("yes").num_args(0).required(true).help("Yes, destroy its keys and payloads"));
    Command::new("partners")
        .about("Make, list, change and erase partners")
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(
            [create, list, show, set_url, disable, enable, add_key, revoke_key, erase]
                .map(|command| with_settings(command, WHERE)),
        )
}

pub(super) fn run(given: &ArgMatches) -> Result<ExitCode, String> {
    let Some((name, given)) = given.subcommand() else { return Err("no command was given".to_owned()) };
    let argument = |name: &str| given.try_get_one::<String>(name).ok().flatten().map_or("", String::as_str);
    let admin = Admin::open(&load_config(given)?)?;
    let path = format!("/partners/{}", argument("id"));
    match name {
        "create" => {
            let mut body = json!({"name": argument("name")});
            for (flag, field) in
                [("id", "id"), ("url", "url"), ("api-key", "apiKey"), ("webhook-secret", "webhookSecret")]
            {
                if !argument(flag).is_empty() {
                    body[field] = argument(flag).into();
                }
            }
            let made = admin.call(Method::POST, "/partners", Some(&body))?;
            println!("id:             {}", text(&made, "id"));
            println!("API key:        {}   (shown once)", text(&made, "apiKey"));
            println!("webhook secret: {}   (shown once)", text(&made, "webhookSecret"));
        }
        "list" => list(&admin)?,
        "show" => {
            let partner = admin.call(Method::GET, &path, None)?;
            let settings = admin.call(Method::GET, &format!("{path}/webhook-settings"), None)?;
            for (name, value) in [("partner", partner), ("webhook settings", settings)] {
                println!("{name}:");
                for (field, value) in value.as_object().into_iter().flatten() {
                    println!("  {field}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
                }
            }
        }
        "set-url" => {
            let url = argument("url");
            let body = json!({"url": if url == "none" { Value::Null } else { url.into() }});
            let settings = admin.call(Method::PUT, &format!("{path}/webhook-settings"), Some(&body))?;
            println!("url: {}", text(&settings, "url"));
        }
        "disable" | "enable" => {
            admin.call(Method::PATCH, &path, Some(&json!({"disabled": name == "disable"})))?;
            println!("{name}d {}", argument("id"));
        }
        "add-key" => {
            let made = admin.call(Method::POST, &format!("{path}/api-keys"), None)?;
            println!("{}", text(&made, "apiKey"));
        }
        "revoke-key" => {
            admin.call(Method::DELETE, &format!("{path}/api-keys/{}", argument("key")), None)?;
            println!("revoked {}", argument("key"));
        }
        "erase" => {
            admin.call(Method::DELETE, &path, None)?;
            println!("erased {}", argument("id"));
        }
        _ => return Err("no such command".to_owned()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Lists all partners, page after page.
fn list(admin: &Admin) -> Result<(), String> {
    let mut after = String::new();
    loop {
        let page = admin.call(Method::GET, &format!("/partners?limit=100{after}"), None)?;
        let rows = page["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        for row in rows {
            let disabled = if row["disabled"] == true { "  disabled" } else { "" };
            println!("{}  {}  {}{disabled}", text(row, "id"), text(row, "name"), text(row, "url"));
        }
        match rows.last() {
            Some(last) if rows.len() == 100 => after = format!("&after={}", text(last, "id")),
            _ => return Ok(()),
        }
    }
}
