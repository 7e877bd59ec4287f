//! Embeds the kernel programs that `cargo xtask build-ebpf` has made. Without them the daemon
//! builds as well; then it captures through libpcap only.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where to write"));
    // Cargo marks the folder that all of its output is in, unless it was there before.
    let is_target = |folder: &&Path| {
        folder.join("CACHEDIR.TAG").exists() || folder.join("bpf/pktvisor.o").exists()
    };
    let target = out.ancestors().find(is_target);
    let folder = target.unwrap_or(Path::new("target")).join("bpf");
    // An empty folder is watched for the object that is yet to come.
    let _ = fs::create_dir_all(&folder);
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed=build.rs");
    let object = fs::read(folder.join("pktvisor.o")).unwrap_or_default();
    if object.is_empty() {
        println!(
            "cargo::warning=no kernel programs in {}: live capture will go through libpcap; \
             `cargo xtask build-ebpf` makes them",
            folder.display()
        );
    }
    fs::write(out.join("pktvisor.o"), object).expect("the output folder takes files");
}
