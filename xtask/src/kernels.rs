//! `cargo xtask kernels`: runs the kernel and live tests under Debian's kernels in a virtual
//! machine.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::exec::{cargo, command_line, exec, output_of, root, target_dir};
use crate::{build_ebpf, setup};

/// Test targets that load programs into the kernel.
const TESTS: [&str; 2] = ["kernel", "live"];
/// Kernel modules that give the virtual machine access to this machine's files.
const MODULES: [&str; 3] = ["virtio_pci", "9pnet_virtio", "overlay"];
/// File system module for the same. It may depend on further modules.
const FILE_SYSTEM: &str = "9p";
/// Time limit for the tests under one kernel, in seconds.
const PATIENCE: u32 = 3_600;
/// Prefix of the line with the exit code of a test program.
const ENDED: &str = "== ended:";

/// The init script. It overlays this machine's files, which are read-only, with a file system in
/// memory, and starts the tests there.
const INIT: &str = r"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /dev /lower /upper /new
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules); do /bin/busybox insmod /module/$module; done
options=trans=virtio,version=9p2000.L,msize=262144,ro,cache=loose
/bin/busybox mount -t 9p -o $options root /lower
/bin/busybox mount -t tmpfs tmpfs /upper
/bin/busybox mkdir /upper/upper /upper/work
/bin/busybox mount -t overlay -o lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/work all /new
/bin/busybox mkdir -p /new/lib/modules
/bin/busybox mount -t 9p -o $options kernel /new/lib/modules
/bin/busybox mount -t proc proc /new/proc
/bin/busybox mount -t sysfs sysfs /new/sys
/bin/busybox mount -t devtmpfs dev /new/dev
/bin/busybox mount -t tmpfs tmpfs /new/tmp
/bin/busybox mount -t tmpfs tmpfs /new/run
/bin/busybox cp /tests /new/run/tests
exec /bin/busybox switch_root /new /bin/sh /run/tests
";

/// Run the kernel and live tests under Debian's kernels, in a virtual machine (QEMU)
#[derive(Args)]
pub(crate) struct Kernels {
    /// Debian packages of kernels, or metapackages such as linux-image-amd64; the kernel needs the
    /// module 9p, which cloud kernels lack
    #[arg(default_value = "linux-image-amd64")]
    packages: Vec<String>,
}

impl Kernels {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        setup::for_kernels()?;
        build_ebpf::build()?;
        let tests = tests()?;
        for package in &self.packages {
            let kernel = Kernel::fetch(package)?;
            eprintln!("== {}", kernel.version);
            kernel.run(&tests).with_context(|| format!("under {}", kernel.version))?;
        }
        Ok(())
    }
}

/// Compiles the test programs and returns their paths.
fn tests() -> Result<Vec<PathBuf>> {
    let mut build = cargo();
    build.args(["test", "--no-run", "--message-format=json", "-p", "pktvisord"]);
    for test in TESTS {
        build.args(["--test", test]);
    }
    let messages = output_of(&mut build).context("cannot build the tests")?;
    let programs: Vec<PathBuf> = messages
        .lines()
        .filter(|message| message.contains(r#""kind":["test"]"#))
        .filter_map(|message| message.split_once(r#""executable":""#))
        .filter_map(|(_, rest)| rest.split('"').next())
        .map(PathBuf::from)
        .collect();
    if programs.len() != TESTS.len() {
        bail!("cargo built {} test programs, expected {}", programs.len(), TESTS.len());
    }
    Ok(programs)
}

/// An unpacked Debian kernel.
struct Kernel {
    folder: PathBuf,
    version: String,
}

impl Kernel {
    /// Downloads and unpacks a package, or the kernel that a metapackage depends on.
    fn fetch(package: &str) -> Result<Self> {
        let depends = output_of(Command::new("apt-cache").args(["depends", package]));
        let depends = depends.with_context(|| format!("no package {package}"))?;
        let image = depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with("linux-image-"))
            .unwrap_or(package);
        let folder = target_dir()?.join("kernels").join(image);
        if !folder.join("boot").exists() {
            fs::create_dir_all(&folder)?;
            exec(Command::new("apt-get").current_dir(&folder).args(["download", image]))?;
            let archive = entries(&folder)?.pop().context("apt downloaded no package")?;
            exec(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&folder))?;
        }
        let modules =
            entries(&folder.join("lib/modules"))?.pop().context("the package has no modules")?;
        let version = modules.file_name().context("a version")?.to_string_lossy().into_owned();
        exec(Command::new("depmod").arg("-b").arg(&folder).arg(&version))?;
        Ok(Self { folder, version })
    }

    /// Boots the kernel in a virtual machine and runs the tests there.
    fn run(&self, tests: &[PathBuf]) -> Result<()> {
        let initramfs = self.initramfs(tests)?;
        let share = |path: &Path, tag: &str| {
            let path = path.display();
            let options = "security_model=none,readonly=on,multidevs=remap";
            format!("local,path={path},mount_tag={tag},{options}")
        };
        let mut machine = Command::new("timeout");
        machine
            .arg(PATIENCE.to_string())
            .args(["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max"])
            .args(["-smp", "2", "-m", "4096", "-nographic", "-no-reboot", "-nic", "none"])
            .arg("-kernel")
            .arg(self.folder.join(format!("boot/vmlinuz-{}", self.version)))
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", "console=ttyS0 quiet panic=-1"])
            .args(["-virtfs", &share(Path::new("/"), "root")])
            .args(["-virtfs", &share(&self.folder.join("lib/modules"), "kernel")]);
        eprintln!("$ {}", command_line(&machine));
        let mut machine = machine.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = machine.stdout.take().context("its output")?;
        let mut ended = Vec::new();
        for line in BufReader::new(output).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{}", line.trim_end());
            ended.extend(line.split_once(ENDED).map(|(_, code)| code.trim().to_owned()));
        }
        machine.wait()?;
        if ended.len() != tests.len() || ended.iter().any(|code| code != "0") {
            bail!("tests failed or did not end within {PATIENCE} s");
        }
        Ok(())
    }

    /// Writes the initramfs that the kernel boots from, and returns its path.
    fn initramfs(&self, tests: &[PathBuf]) -> Result<PathBuf> {
        let folder = self.folder.join("initramfs");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(folder.join("bin"))?;
        fs::create_dir_all(folder.join("module"))?;
        fs::copy("/bin/busybox", folder.join("bin/busybox"))?;
        symlink("busybox", folder.join("bin/sh"))?;
        let mut names = Vec::new();
        for module in MODULES.iter().chain([&FILE_SYSTEM]) {
            let mut modprobe = Command::new("modprobe");
            modprobe.arg("-d").arg(&self.folder).args(["-S", &self.version, "--show-depends"]);
            let needed = output_of(modprobe.arg(module))
                .with_context(|| format!("the kernel has no module {module}"))?;
            for path in needed.lines().filter_map(|line| line.strip_prefix("insmod ")) {
                let path = Path::new(path.trim());
                let name = path.file_name().context("a module")?.to_string_lossy().into_owned();
                let plain = name.trim_end_matches(".xz").to_owned();
                if names.contains(&plain) {
                    continue;
                }
                fs::copy(path, folder.join("module").join(&name))?;
                if plain != name {
                    exec(Command::new("xz").arg("-d").arg(folder.join("module").join(&name)))?;
                }
                names.push(plain);
            }
        }
        fs::write(folder.join("modules"), names.join("\n"))?;
        fs::write(folder.join("tests"), script(tests))?;
        let init = folder.join("init");
        fs::write(&init, INIT)?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;

        let archive = self.folder.join("initramfs.cpio");
        let mut cpio = Command::new("cpio")
            .args(["--create", "--format=newc", "--quiet"])
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(fs::File::create(&archive)?)
            .spawn()?;
        let listed = output_of(Command::new("find").arg(".").current_dir(&folder));
        let mut list = cpio.stdin.take().context("its input")?;
        writeln!(list, "{}", listed.context("find")?)?;
        drop(list);
        if !cpio.wait()?.success() {
            bail!("cpio failed");
        }
        Ok(archive)
    }
}

/// Returns the script that runs the tests one after another and powers the virtual machine off.
fn script(tests: &[PathBuf]) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let line = |test: &PathBuf| {
        format!("{} --test-threads=1 --include-ignored\necho {ENDED} $?\n", test.display())
    };
    format!(
        "export PATH={path} HOME=/root CI=true\nip link set lo up\nmkdir -p /run/netns\n\
         mount -t bpf bpf /sys/fs/bpf\ncd {}\n{}echo o > /proc/sysrq-trigger\nwhile :; do :; done\n",
        root().join("pktvisord").display(),
        tests.iter().map(line).collect::<String>()
    )
}

/// Returns the entries of a folder, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort_unstable();
    Ok(paths)
}
