//! One integration binary: what the system does, seen from outside. See `harness` for how it is driven.

fn main() {}
