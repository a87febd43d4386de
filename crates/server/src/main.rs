//! The one binary.

/// Events are many small allocations, freed on other threads than those that made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // The allocator asks for huge pages. To clear one can take milliseconds on a virtual machine, in which its thread
    // stands still, and much of what is in them is never used. Where this fails, that is all that is lost.
    _ = rustix::thread::disable_transparent_huge_pages(true);
    capa_webhooks::cli::run(std::env::args_os())
}
