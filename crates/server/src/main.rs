//! The one binary.

fn main() -> std::process::ExitCode {
    capa_webhooks::cli::run(std::env::args_os())
}
