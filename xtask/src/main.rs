//! Development commands, one module each: `cargo xtask --help`.

mod bench;
mod build_ebpf;
mod dependencies;
mod dist;
mod exec;
mod fuzz;
mod generate;
mod kernels;
mod run;
mod screenshot;
mod setup;
mod soak;
mod test;

use std::process::ExitCode;

use clap::Parser;

/// Build, test, measure and package pktvisor.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    Setup(setup::Setup),
    BuildEbpf(build_ebpf::BuildEbpf),
    Run(run::Run),
    #[command(name = "gen")]
    Generate(generate::Generate),
    #[command(name = "gen-attack")]
    Attack(generate::GenerateAttack),
    Bench(bench::Bench),
    Fuzz(fuzz::Fuzz),
    Kernels(kernels::Kernels),
    Screenshot(screenshot::Screenshot),
    Soak(soak::Soak),
    Audit(dependencies::Audit),
    Dist(dist::Dist),
    /// Set up, then check formatting, dependencies, lints, tests and documentation
    Test,
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Setup(command) => command.run(),
        Command::BuildEbpf(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Generate(command) => command.run(),
        Command::Attack(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Fuzz(command) => command.run(),
        Command::Kernels(command) => command.run(),
        Command::Screenshot(command) => command.run(),
        Command::Soak(command) => command.run(),
        Command::Audit(command) => command.run(),
        Command::Dist(command) => command.run(),
        Command::Test => test::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
