//! `capa-webhooks keys`: keys of the platform, and the master key.

use super::admin::Admin;
use super::{load_config, with_settings};
use crate::keyfile::{self, FreshKey};
use clap::{Arg, ArgAction, ArgMatches, Command};
use http::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  capa-webhooks keys create --name checkout --scope publish
      Makes a key with which the checkout service may publish; shows it once.
  capa-webhooks keys list
  capa-webhooks keys revoke 3f0c…
  capa-webhooks keys new
      Prints a fresh key that is not stored anywhere, for CAPA_WEBHOOKS_PLATFORM_KEY.
  capa-webhooks keys master --out capa-webhooks.key
      Makes a master key ahead of the first start.

create, list and revoke work on a running service too: they find it at the configured address.";

/// The settings that say where the store or the service is.
pub(super) const WHERE: &[&str] =
    &["store", "master_key_file", "admin_key_file", "listen", "allow_http", "allow_addresses", "allow_ports"];

pub(super) fn command() -> Command {
    let create = Command::new("create")
        .about("Make a platform key and show it once")
        .arg(Arg::new("name").long("name").required(true).help("What it is for"))
        .arg(
            Arg::new("scope")
                .long("scope")
                .required(true)
                .action(ArgAction::Append)
                .value_parser(["publish", "admin", "read"])
                .help("What it may do; can be given several times"),
        );
    let revoke = Command::new("revoke")
        .about("Revoke a platform key")
        .arg(Arg::new("id").required(true).help("The key's id: the part before the colon"));
    let master = Command::new("master")
        .about("Make a master key file (mode 0600)")
        .arg(Arg::new("out").long("out").value_name("FILE").required(true).help("The file; never one that exists"));
    Command::new("keys")
        .about("Make, list and revoke platform keys; make a master key")
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            with_settings(create, WHERE),
            with_settings(Command::new("list").about("List platform keys"), WHERE),
            with_settings(revoke, WHERE),
            Command::new("new").about("Print a fresh key that is not stored anywhere"),
            master,
        ])
}

pub(super) fn run(given: &ArgMatches) -> Result<ExitCode, String> {
    match given.subcommand() {
        Some(("create", given)) => {
            let scopes: Vec<&String> = given.get_many("scope").into_iter().flatten().collect();
            let body = json!({"name": given.get_one::<String>("name"), "scopes": scopes});
            let made = Admin::open(&load_config(given)?)?.call(Method::POST, "/platform-keys", Some(&body))?;
            println!("{}", text(&made, "apiKey"));
        }
        Some(("list", given)) => {
            let listed = Admin::open(&load_config(given)?)?.call(Method::GET, "/platform-keys", None)?;
            for row in listed["data"].as_array().into_iter().flatten() {
                let scopes: Vec<&str> =
                    row["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let revoked = row["revokedAt"].as_str().map_or_else(String::new, |at| format!("  revoked {at}"));
                println!(
                    "{}  {:<20}  {}  {}{revoked}",
                    text(row, "id"),
                    scopes.join(","),
                    text(row, "createdAt"),
                    text(row, "name")
                );
            }
        }
        Some(("revoke", given)) => {
            let id = given.get_one::<String>("id").map_or("", String::as_str);
            Admin::open(&load_config(given)?)?.call(Method::DELETE, &format!("/platform-keys/{id}"), None)?;
            println!("revoked {id}");
        }
        Some(("new", _)) => println!("{}", FreshKey::make().expose()),
        Some(("master", given)) => {
            let file = given.get_one::<String>("out").map_or("", String::as_str);
            let key =
                keyfile::make_master_key(Path::new(file)).map_err(|error| format!("{file} cannot be made: {error}"))?;
            println!("made master key {} in {file}; keep a copy in a safe place", key.id());
        }
        _ => return Err("no command was given".to_owned()),
    }
    Ok(ExitCode::SUCCESS)
}

/// A text of an answer.
pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or("-")
}
