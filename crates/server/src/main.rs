//! The one binary.

/// Events are many small allocations, freed on other threads than those that made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    capa_webhooks::cli::run(std::env::args_os())
}
