//! Workers in processes of their own, which can be held and looked at.

use std::{
    io::Read,
    os::unix::process::CommandExt,
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
        let own = self.0.id().to_string();
        let processes = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
        let resident = processes.filter_map(|process| {
            let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
            // The third field after the name, which may contain anything, is the group.
            let group = stat.rsplit_once(") ")?.1.split(' ').nth(2)?.to_owned();
            let status = std::fs::read_to_string(process.path().join("status")).ok().filter(|_| group == own)?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().trim_end_matches(" kB").parse::<f64>().ok()
        });
        resident.sum::<f64>() / 1024.0
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
