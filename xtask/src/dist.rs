//! `cargo xtask dist`: builds the release: a tarball, a Debian package, and a bill of materials for
//! each program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::build_ebpf;
use crate::exec::{cargo, cargo_tool, exec, is_root, output_of, root, target_dir};
use crate::setup;

/// Lines of the example configuration, and their form in the installed one.
const INSTALLED: [(&str, &str); 3] = [
    ("\n#target = \"any\"\n", "\ntarget = \"any\"\n"),
    ("\n#[history]\n", "\n[history]\n"),
    ("\n#dir = \"/var/lib/pktvisor\"\n", "\ndir = \"/var/lib/pktvisor\"\n"),
];

/// Minor version of the newest glibc that the programs may need: 2.36 of Debian 12.
const NEWEST_GLIBC: u32 = 36;
/// The programs, and the section of their manual page.
const PROGRAMS: [(&str, &str); 2] = [("pktvisord", "8"), ("pktvisor", "1")];
/// Shells, and Debian's path of their completions, where `{}` stands for the program.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/{}"),
    ("fish", "share/fish/vendor_completions.d/{}.fish"),
    ("zsh", "share/zsh/vendor-completions/_{}"),
];

/// Build the release into target/dist: a tarball, a Debian package and bills of materials (SBOM)
#[derive(Args)]
pub(crate) struct Dist {
    /// Also test the package and the steps of the Dockerfile, each in a separate Debian 12;
    /// requires root
    #[arg(long)]
    test: bool,
}

impl Dist {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        setup::for_dist()?;
        build_ebpf::build()?;
        exec(cargo().args(["build", "--release", "-p", "pktvisord", "-p", "pktvisor-tui"]))?;
        let dist = target_dir()?.join("dist");
        let stage = dist.join("stage");
        if stage.exists() {
            fs::remove_dir_all(&stage)
                .with_context(|| format!("cannot empty {}", stage.display()))?;
        }
        stage_all(&stage)?;
        let tarball = tarball(&dist, &stage)?;
        let package = debian(&dist)?;
        let [daemon, dashboard] = bills(&dist)?;
        let files = [&tarball, &package, &daemon, &dashboard];
        let sums = output_of(
            Command::new("sha256sum").current_dir(&dist).args(files.map(|file| file_name(file))),
        );
        fs::write(dist.join("SHA256SUMS"), sums.context("sha256sum failed")? + "\n")?;
        for file in files {
            println!(
                "{} {:.1} MiB",
                file.display(),
                fs::metadata(file)?.len() as f64 / 1_048_576.0
            );
        }
        if self.test {
            test_package(&dist, &package)?;
            test_image(&dist)?;
        }
        Ok(())
    }
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Returns the version of the workspace.
fn version() -> Result<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    let line = manifest.lines().find_map(|line| line.strip_prefix("version = \""));
    Ok(line.and_then(|rest| rest.split('"').next()).context("no version in Cargo.toml")?.to_owned())
}

/// Copies all files to their paths under a prefix such as /usr.
fn stage_all(stage: &Path) -> Result<()> {
    let release = target_dir()?.join("release");
    for (program, section) in PROGRAMS {
        let built = release.join(program);
        check_glibc(&built)?;
        let to = stage.join("bin").join(program);
        copy(&built, &to)?;
        exec(Command::new("strip").arg(&to))?;
        let generate = |kind: &str| {
            let mut command = Command::new(&built);
            command.args(["--generate", kind]);
            output_of(&mut command).with_context(|| format!("{program} --generate {kind} failed"))
        };
        let manual = stage.join(format!("share/man/man{section}/{program}.{section}"));
        write(&manual, &generate("man")?)?;
        exec(Command::new("gzip").args(["-n", "-9"]).arg(&manual))?;
        for (shell, place) in SHELLS {
            write(&stage.join(place.replace("{}", program)), &generate(shell)?)?;
        }
    }
    // The installed service watches all interfaces by default, and keeps a history.
    let mut config = fs::read_to_string(root().join("docs/pktvisord.toml"))?;
    for (example, installed) in INSTALLED {
        ensure!(config.contains(example), "docs/pktvisord.toml has no line {example:?}");
        config = config.replace(example, installed);
    }
    write(&stage.join("etc/pktvisor/pktvisord.toml"), &config)?;
    let package = root().join("pktvisord/package");
    copy(&package.join("pktvisord.service"), &stage.join("lib/systemd/system/pktvisord.service"))?;
    copy(&package.join("pktvisor.sysusers"), &stage.join("lib/sysusers.d/pktvisor.conf"))?;
    for document in ["README.md", "CHANGELOG.md", "LICENSE", "Dockerfile"] {
        copy(&root().join(document), &stage.join("share/doc/pktvisor").join(document))?;
    }
    for entry in fs::read_dir(root().join("docs"))? {
        let path = entry?.path();
        if path.is_file() {
            copy(&path, &stage.join("share/doc/pktvisor/docs").join(file_name(&path)))?;
        }
    }
    for entry in fs::read_dir(root().join("docs/deploy"))? {
        let path = entry?.path();
        copy(&path, &stage.join("share/doc/pktvisor/docs/deploy").join(file_name(&path)))?;
    }
    let grafana = stage.join("share/doc/pktvisor/docs/grafana");
    for file in ["dashboard.json", "alerts.yml", "alerts_test.yml"] {
        copy(&root().join("docs/grafana").join(file), &grafana.join(file))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().context("a folder")?)?;
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

fn write(to: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(to.parent().context("a folder")?)?;
    fs::write(to, text).with_context(|| format!("cannot write {}", to.display()))
}

/// Fails if a program needs a newer glibc than that of Debian 12.
fn check_glibc(program: &Path) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let newest = newest_glibc(&bytes).context("the program does not need glibc")?;
    println!("{} needs glibc 2.{newest}", file_name(program));
    ensure!(
        newest <= NEWEST_GLIBC,
        "newer than glibc 2.{NEWEST_GLIBC} of Debian 12: build the program there"
    );
    Ok(())
}

/// Returns the highest N among the versions `GLIBC_2.N` in a program.
fn newest_glibc(bytes: &[u8]) -> Option<u32> {
    const VERSION: &[u8] = b"GLIBC_2.";
    let versions = bytes.windows(VERSION.len()).enumerate().filter(|(_, w)| *w == VERSION);
    let numbers = versions.filter_map(|(at, _)| {
        let digits = bytes[at + VERSION.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        String::from_utf8(digits.copied().collect()).ok()?.parse().ok()
    });
    numbers.max()
}

/// Builds the tarball. Equal files make an equal tarball: names are sorted, owners and times fixed.
fn tarball(dist: &Path, stage: &Path) -> Result<PathBuf> {
    let name = format!("pktvisor-{}-{}-linux-gnu", version()?, std::env::consts::ARCH);
    let file = dist.join(format!("{name}.tar.gz"));
    exec(
        Command::new("tar")
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"])
            .arg(format!("--transform=s,^\\.,{name},"))
            .args(["--use-compress-program=gzip -n -9", "-cf"])
            .arg(&file)
            .arg("-C")
            .arg(stage)
            .arg("."),
    )?;
    Ok(file)
}

/// Builds the bill of materials (SBOM, CycloneDX) of each program.
fn bills(dist: &Path) -> Result<[PathBuf; 2]> {
    let tool = cargo_tool("cargo-cyclonedx")?;
    exec(Command::new(tool).current_dir(root()).args([
        "cyclonedx",
        "--format=json",
        "--spec-version=1.5",
        "--describe=binaries",
    ]))?;
    // cargo-cyclonedx writes a file into the folder of each package.
    fs::remove_file(root().join("xtask/xtask_bin.cdx.json"))?;
    let bill = |package: &str, program: &str| -> Result<PathBuf> {
        let made = root().join(package).join(format!("{program}_bin.cdx.json"));
        let kept = dist.join(format!("{program}.cdx.json"));
        copy(&made, &kept)?;
        fs::remove_file(made)?;
        Ok(kept)
    };
    Ok([bill("pktvisord", "pktvisord")?, bill("pktvisor-tui", "pktvisor")?])
}

/// Removes earlier Debian packages and builds a new one.
fn debian(dist: &Path) -> Result<PathBuf> {
    let tool = cargo_tool("cargo-deb")?;
    for entry in fs::read_dir(dist)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            fs::remove_file(path)?;
        }
    }
    exec(
        Command::new(tool)
            .current_dir(root())
            .args(["--no-build", "--no-strip", "-p", "pktvisord", "--output"])
            .arg(dist),
    )?;
    let mut packages = fs::read_dir(dist)?.filter_map(|entry| Some(entry.ok()?.path()));
    let package = packages.find(|path| path.extension().is_some_and(|e| e == "deb"));
    package.context("cargo-deb created no package")
}

/// A Debian 12 root file system in a folder.
struct Root(PathBuf);

impl Root {
    /// Creates the file system with debootstrap, in a folder that is emptied first.
    fn make(place: PathBuf) -> Result<Self> {
        ensure!(is_root(), "creating a root folder requires root");
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        setup::for_dist_test()?;
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", "bookworm"]).arg(&place).stdout(Stdio::null());
        exec(&mut debootstrap)?;
        let root = Self(place);
        root.run("apt-get -q update")?;
        Ok(root)
    }

    /// Runs a script in a chroot and returns its standard output. Its mounts end with the script,
    /// because it has a mount namespace of its own.
    fn run(&self, script: &str) -> Result<String> {
        println!("# {script}");
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "chroot"])
            .arg(&self.0)
            .args(["sh", "-ec", script])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{script}: {text}{errors}");
        Ok(text.trim().to_owned())
    }

    fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.0).with_context(|| format!("cannot remove {}", self.0.display()))
    }
}

/// Installs the package into a separate Debian 12, runs both programs, and removes the package.
fn test_package(dist: &Path, package: &Path) -> Result<()> {
    let root = Root::make(dist.join("root"))?;
    copy(package, &root.0.join("tmp").join(file_name(package)))?;
    let deb = format!("/tmp/{}", file_name(package));
    root.run(&format!("apt-get -q install -y --no-install-recommends {deb}"))?;
    let told = root.run("pktvisord --version && pktvisor --version")?;
    ensure!(told.contains(&version()?) && told.contains("live capture: eBPF"), "{told}");
    root.run("pktvisord --check-config")?;
    ensure!(root.run("pktvisord --print-config")?.contains("target = \"any\""), "the target");
    ensure!(root.run("getent passwd pktvisor")?.contains("nologin"), "the user");
    root.run(
        "test -s /usr/share/man/man8/pktvisord.8.gz && test -s /usr/share/man/man1/pktvisor.1.gz",
    )?;
    root.run("test -s /lib/systemd/system/pktvisord.service")?;
    root.run("bash -n /usr/share/bash-completion/completions/pktvisord")?;
    // A capture file with one Ethernet packet.
    let capture = "printf '\\241\\262\\303\\324\\0\\2\\0\\4\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0\\377\\377\\0\\0\\0\\1\
                   \\147\\164\\205\\0\\0\\0\\0\\0\\0\\0\\0\\16\\0\\0\\0\\16\\1\\2\\3\\4\\5\\6\\7\\10\\11\\12\\13\\14\\10\\6'";
    let json = root.run(&format!("{capture} | pktvisord --config /dev/null --summary -"))?;
    ensure!(json.contains("\"total\":1,"), "{json}");
    root.run("apt-get -q purge -y pktvisor")?;
    let left = root.run(
        "find / -xdev -name '*pktvisor*' -not -path '/proc/*' -not -path '/tmp/*' -not -path '/var/log/*' \
         -not -path '/var/lib/systemd/*'",
    )?;
    ensure!(left.is_empty(), "files left after purging the package: {left}");
    println!("the package can be installed, used and removed");
    root.remove()
}

/// Runs the steps of the Dockerfile's last stage in a separate Debian 12. Starts the daemon there
/// as a container engine does: as the image's user, first with NET_RAW, which Docker grants by
/// default, then with all capabilities that the kernel programs need.
///
/// The first stage is not tested: `cargo xtask dist` runs the same commands itself.
fn test_image(dist: &Path) -> Result<()> {
    let dockerfile =
        fs::read_to_string(crate::exec::root().join("Dockerfile"))?.replace("\\\n", "");
    let (_, last) = dockerfile.rsplit_once("\nFROM ").context("no stage in the Dockerfile")?;
    let root = Root::make(dist.join("image"))?;
    for line in last.lines() {
        if let Some(script) = line.strip_prefix("RUN ") {
            root.run(script)?;
        } else if let Some(files) = line.strip_prefix("COPY --from=build ") {
            let files: Vec<&str> = files.split_whitespace().collect();
            let (to, from) = files.split_last().context("nothing to copy")?;
            for file in from {
                let program = file_name(Path::new(file));
                copy(&dist.join("stage/bin").join(program), &root.0.join(&to[1..]).join(program))?;
            }
        }
    }
    let user = last.lines().find_map(|line| line.strip_prefix("USER ")).context("no user")?;
    // NET_RAW of Docker's default set, then also the capabilities to add.
    let all = "-all,+net_raw,+bpf,+net_admin,+perfmon";
    for (bounding, said) in
        [("-all,+net_raw", "--cap-add BPF --cap-add NET_ADMIN"), (all, "watching lo: tc")]
    {
        let mut start = format!(
            "mount -t proc proc /proc; mount -t sysfs sysfs /sys; timeout -s INT 3 setpriv --reuid={user} --regid={user} --clear-groups --inh-caps=-all \
             --bounding-set={bounding} pktvisord -p 0 lo 2>&1"
        );
        start += " || test $? = 124";
        let log = root.run(&start)?;
        ensure!(log.contains(said) && log.contains("serving on"), "{bounding}: {log}");
    }
    println!("the daemon of the image starts, with and without capabilities");
    root.remove()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_newest_glibc_version() {
        assert_eq!(newest_glibc(b"xGLIBC_2.4\0GLIBC_2.34\0GLIBC_2.3.4 GLIBC_PRIVATE"), Some(34));
        assert_eq!(newest_glibc(b"musl"), None);
    }
}
