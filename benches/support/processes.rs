//! Workers in processes of their own, which can be held and looked at.

// Each bench uses its own part of it.
#![allow(dead_code)]

use std::{
    io::Read,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A process with all that it started. Killed when it is dropped.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        // What it writes is no measure.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null());
        Self(command.spawn().expect("a process"))
    }

    /// It does nothing until it is told to go on.
    pub(crate) fn hold(&self) {
        self.signal("STOP");
    }

    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let told = Command::new("sh").args(["-c", &format!("kill -{name} -{}", self.0.id())]).status();
        assert!(told.is_ok_and(|status| status.success()), "{name} for the group {}", self.0.id());
    }

    /// The memory that it has, with all that it started, in megabytes.
    pub(crate) fn megabytes(&self) -> f64 {
        let resident = |folder: &Path, _: &[String]| {
            let status = std::fs::read_to_string(folder.join("status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().trim_end_matches(" kB").parse::<f64>().ok()
        };
        self.sum(resident) / 1024.0
    }

    /// Seconds that it has kept processors busy, with all that it started.
    pub(crate) fn busy(&self) -> f64 {
        // The kernel counts hundredths.
        self.sum(|_, fields| Some(fields[11].parse::<f64>().ok()? + fields[12].parse::<f64>().ok()?)) / 100.0
    }

    /// The sum over its processes: of their folders, and the fields after their names.
    fn sum(&self, of: impl Fn(&Path, &[String]) -> Option<f64>) -> f64 {
        let own = self.0.id().to_string();
        let processes = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
        let of_one = |folder: PathBuf| {
            let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
            // The name may contain anything. Its group is the third field after it.
            let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect();
            if *fields.get(2)? == own { of(&folder, &fields) } else { None }
        };
        processes.filter_map(|process| of_one(process.path())).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal("KILL");
        let _ = self.0.wait();
    }
}

/// Ends this process as soon as the one that started it is gone.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}
