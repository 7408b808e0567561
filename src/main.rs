//! Parse, run, exit.

fn main() -> std::process::ExitCode {
    xds_sync::cli::main()
}
