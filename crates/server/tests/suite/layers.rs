//! Who may use whom within the server crate: read from the `crate::` paths in its source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each module may use. Only `boot` knows everyone; `api` and `cli` never reach into the engine; `config` imports
/// nobody.
const MAY_USE: &[(&str, &[&str])] = &[
    ("api", &["clock", "directory", "door", "endpoints", "ingest", "keyfile", "telemetry", "wake"]),
    (
        "boot",
        &[
            "api",
            "clock",
            "config",
            "directory",
            "disk",
            "door",
            "endpoints",
            "engine",
            "housekeeping",
            "inbox",
            "ingest",
            "keyfile",
            "moves",
            "node",
            "opening",
            "outgoing",
            "permit",
            "room",
            "telemetry",
            "wake",
        ],
    ),
    ("cli", &["api", "boot", "clock", "config", "keyfile", "opening", "telemetry"]),
    ("clock", &[]),
    ("config", &[]),
    ("directory", &["outgoing", "permit"]),
    ("disk", &["clock", "door", "telemetry"]),
    ("door", &["telemetry"]),
    ("endpoints", &["clock", "directory", "outgoing", "telemetry"]),
    (
        "engine",
        &["clock", "directory", "endpoints", "moves", "outgoing", "pace", "permit", "room", "telemetry", "wake"],
    ),
    ("housekeeping", &["clock", "telemetry"]),
    ("inbox", &["api", "ingest"]),
    ("ingest", &["clock", "door", "moves", "pace", "permit", "room", "telemetry"]),
    ("keyfile", &["clock"]),
    ("moves", &["clock"]),
    ("node", &["clock", "directory", "door", "moves", "permit", "telemetry"]),
    ("opening", &["clock", "config", "keyfile", "telemetry"]),
    ("outgoing", &["clock"]),
    ("pace", &["clock"]),
    ("permit", &["clock"]),
    ("room", &[]),
    ("telemetry", &["config"]),
    ("wake", &[]),
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules that a source text uses through `crate::`.
fn used(text: &str) -> BTreeSet<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: String = code.collect::<Vec<_>>().join("\n");
    code.split("crate::")
        .skip(1)
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(group) => {
                group.split('}').next().unwrap_or_default().split(',').map(str::trim).map(first_word).collect()
            }
            None => vec![first_word(rest)],
        })
        .filter(|word| !word.is_empty())
        .collect()
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn modules_use_only_whom_they_may() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let module =
            inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        let Some(allowed) = rules.get(module.as_str()) else {
            wrong.push(format!("{module} is not in the table of this test"));
            continue;
        };
        for other in used(&std::fs::read_to_string(&file).unwrap()) {
            seen.insert((module.clone(), other.clone()));
            if other != module && !allowed.contains(&other.as_str()) {
                wrong.push(format!("{} uses crate::{other}", inside.display()));
            }
        }
    }
    assert!(seen.contains(&("boot".to_owned(), "engine".to_owned())), "the test no longer finds what it looks for");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn paths_are_found_in_every_form() {
    let text = "use crate::engine::x;\nuse crate::{api::y, boot};\n// crate::comment\nlet x = crate::clock::now();";
    assert_eq!(used(text).into_iter().collect::<Vec<_>>(), ["api", "boot", "clock", "engine"]);
}
