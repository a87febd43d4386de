//! The command line: the real binary, run as people run it.

mod commands;
mod configuration;
mod copy;
mod dev;
mod doctor;
mod process;
mod serving;
mod sqlite;

use process::Place;

#[test]
fn help_has_examples() {
    let place = Place::new();
    let first = place.good(&["--help"]);
    assert!(first.contains("capa-webhooks dev"), "{first}");
    for command in ["serve", "dev", "doctor", "keys", "partners", "copy"] {
        assert!(first.contains(command), "{first}");
        let help = place.good(&[command, "--help"]);
        let (_, examples) = help.split_once("Examples:").expect(command);
        assert!(examples.contains(&format!("  capa-webhooks {command}")), "{help}");
    }
}

#[test]
fn what_cannot_be_understood_is_refused() {
    let place = Place::new();
    for (arguments, words) in [
        (&["sreve"][..], "a similar subcommand exists: 'serve'"),
        (&["serve", "--listne", "127.0.0.1:0"], "a similar argument exists: '--listen'"),
        (&["dev", "--listen", "8080"], "such as 127.0.0.1:8080"),
        (&["keys", "create", "--name", "x", "--scope", "write"], "[possible values: publish, admin, read]"),
        (&["partners", "erase", "0199f7a0-0000-7000-8000-000000000000"], "--yes"),
    ] {
        let done = place.run(arguments);
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.err);
        assert!(done.err.contains(words), "{arguments:?}: {}", done.err);
    }
    assert_eq!(place.names("."), ["tmp"], "nothing is made");
}
