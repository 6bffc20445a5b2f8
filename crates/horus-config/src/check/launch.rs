//! What is started: command, directory, environment, account, limits, log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use horus_core::plan::{LaunchPlan, Limits, LogPlan, Secret};

use super::{Check, Subject};
use crate::at::At;
use crate::defaults;
use crate::fault::Code;
use crate::raw::{AccountText, CommandText, PathText, SecretText, SizeText, Text};
use crate::words::{check_variable_name, parse_env_file, parse_size, size_text, split_command};

/// Longest `env_file`, in bytes.
const ENV_FILE_BYTES_MAX: u64 = 64 << 10;
/// Faults of one `env_file` that are told.
const ENV_FILE_FAULTS_MAX: usize = 5;
/// Words of a command line, and bytes of all of them: a quarter of what Linux takes, so that it always does.
const COMMAND_WORDS_MAX: usize = 1024;
const COMMAND_BYTES_MAX: usize = 128 << 10;
/// No program can be loaded into less.
const MEMORY_MIN: u64 = 1 << 20;
/// Standard input, output, error, and what a loader opens.
const OPEN_FILES_MIN: u64 = 8;
const LOG_SIZE_MIN: u64 = 4 << 10;
const LOG_SIZE_MAX: u64 = 1 << 40;
const LOG_KEEP_MAX: u32 = 1000;

impl Check<'_> {
    pub(super) fn launch(&mut self, subject: &Subject<'_>) -> LaunchPlan {
        let (raw, shared) = (subject.raw, subject.defaults);
        let command = match &raw.command {
            Some(at) => self.command(at, "command").unwrap_or_default(),
            None => {
                let help = "write `command = [\"program\", \"argument\"]`";
                self.missing(&[subject.table, subject.name.as_str(), "command"], &subject.span, help);
                Vec::new()
            }
        };
        let directory = raw.directory.as_ref().or(shared.directory.as_ref());
        let place = directory.map_or_else(|| subject.span.clone(), |at| at.span.clone());
        let directory =
            directory.and_then(|at| self.path(at, "directory")).unwrap_or_else(|| self.folder.clone());
        if !self.environment.look(&directory).is_ok_and(|facts| facts.directory) {
            self.findings
                .report(
                    Code::NoDirectory,
                    &place,
                    format!("the folder `{}` does not exist", directory.display()),
                )
                .label("it would be started there");
        }
        let user = raw.user.as_ref().or(shared.user.as_ref());
        let home = user.and_then(|at| self.user(at));
        let group = raw.group.as_ref().or(shared.group.as_ref());
        group.into_iter().for_each(|at| self.group(at));
        let environment = self.environment_of(subject, home);
        if let (Some(at), Some(program)) = (&raw.command, command.first()) {
            self.look_for_program(at, program, &directory, &environment);
        }
        let agent = self.agent(subject, &command);
        LaunchPlan {
            command,
            directory,
            environment,
            user: user.map(|at| at.value.0.clone()),
            group: group.map(|at| at.value.0.clone()),
            limits: self.limits(subject),
            exclusive: self.exclusive(subject.raw),
            log: self.log(subject),
            agent,
        }
    }

    /// Program and arguments; also for `exec` beats and checks.
    pub(super) fn command(&mut self, at: &At<CommandText>, key: &str) -> Option<Vec<String>> {
        let words = match &at.value {
            CommandText::Words(words) => Ok(words.clone()),
            CommandText::Line(line) => split_command(line),
        };
        let why = match words {
            Err(why) => why,
            Ok(words) if words.first().is_none_or(String::is_empty) => "names no program".to_owned(),
            Ok(words) if words.iter().any(|word| word.contains('\0')) => "holds a NUL byte".to_owned(),
            Ok(words) if words.len() > COMMAND_WORDS_MAX => {
                format!("has more than {COMMAND_WORDS_MAX} words")
            }
            Ok(words) if words.iter().map(String::len).sum::<usize>() > COMMAND_BYTES_MAX => {
                format!("is longer than {COMMAND_BYTES_MAX} bytes")
            }
            Ok(words) => return Some(words),
        };
        let help = if why.contains("shell") {
            "for pipes, variables and patterns start a shell: [\"sh\", \"-c\", \"exec bot | tee log\"]; or put the word in quotes"
        } else {
            "write it as a list of words: [\"python3\", \"bot.py\", \"--live\"]"
        };
        self.findings
            .report(Code::BadCommand, &at.span, format!("`{key}` {why}"))
            .label("cannot be started")
            .help(help);
        None
    }

    /// Only a warning: a deployment may bring the program later.
    fn look_for_program(
        &mut self,
        at: &At<CommandText>,
        program: &str,
        directory: &Path,
        environment: &BTreeMap<String, Secret>,
    ) {
        let executable = |path: &Path| {
            self.environment.look(path).is_ok_and(|facts| !facts.directory && facts.mode & 0o111 != 0)
        };
        let search = environment.get("PATH").map_or(defaults::PATH, Secret::expose);
        let (found, where_to) = if program.contains('/') {
            let path = super::tidy(&directory.join(program));
            (executable(&path), format!("`{}` is not there or not executable", path.display()))
        } else {
            let found =
                std::env::split_paths(search).any(|folder| executable(&directory.join(folder).join(program)));
            (found, format!("there is no program `{program}` in the `PATH` that it would get"))
        };
        if !found {
            self.findings
                .report(Code::NoProgram, &at.span, where_to)
                .label("could not be started now")
                .help("write the whole path of the program, or check its spelling and `chmod +x`");
        }
    }

    /// Inherited, then the file, then `[defaults]`, then the service's own. `home`: what another user has instead.
    fn environment_of(
        &mut self,
        subject: &Subject<'_>,
        home: Option<(String, PathBuf)>,
    ) -> BTreeMap<String, Secret> {
        let (raw, shared) = (subject.raw, subject.defaults);
        let mut variables = BTreeMap::new();
        let mut set = |name: &str, value: String| variables.insert(name.to_owned(), Secret::new(value));
        set("PATH", defaults::PATH.to_owned());
        let names = match raw.inherit_env.as_ref().or(shared.inherit_env.as_ref()) {
            Some(list) => list.value.iter().filter_map(|at| self.variable_name(&at.value.0, at)).collect(),
            None => defaults::INHERIT_ENV.map(str::to_owned).to_vec(),
        };
        for name in names {
            if let Some(value) = self.environment.variable(&name) {
                set(&name, value);
            }
        }
        if let Some((name, home)) = home {
            set("USER", name.clone());
            set("LOGNAME", name);
            set("HOME", home.to_string_lossy().into_owned());
        }
        if let Some(at) = raw.env_file.as_ref().or(shared.env_file.as_ref()) {
            for (name, value) in self.env_file(at) {
                set(&name, value);
            }
        }
        for (name, value) in shared.env.iter().chain(&raw.env) {
            if let (Some(name), Some(value)) =
                (self.variable_name(&name.value, name), self.variable_value(value))
            {
                set(&name, value);
            }
        }
        variables
    }

    fn variable_name<T>(&mut self, name: &str, at: &At<T>) -> Option<String> {
        match check_variable_name(name) {
            Ok(()) => Some(name.to_owned()),
            Err(why) => {
                if !self.findings.has(Code::BadVariable, &at.span) {
                    self.findings.report(Code::BadVariable, &at.span, why).label("cannot be set");
                }
                None
            }
        }
    }

    fn variable_value(&mut self, at: &At<SecretText>) -> Option<String> {
        let value = at.value.0.expose();
        if value.contains('\0') {
            if !self.findings.has(Code::BadVariable, &at.span) {
                self.findings
                    .report(Code::BadVariable, &at.span, "a value holds a NUL byte")
                    .label("cannot be set");
            }
            return None;
        }
        Some(value.to_owned())
    }

    /// The file's faults are told at the place that names it: its own lines may hold secrets and are shown to nobody.
    fn env_file(&mut self, at: &At<PathText>) -> Vec<(String, String)> {
        let Some(path) = self.path(at, "env_file") else {
            return Vec::new();
        };
        if self.findings.has(Code::EnvFile, &at.span) {
            return Vec::new();
        }
        let shown = path.display();
        let text = match self.environment.read(&path, ENV_FILE_BYTES_MAX + 1) {
            Err(error) => Err(format!("`{shown}` cannot be read: {error}")),
            Ok(bytes) if bytes.len() as u64 > ENV_FILE_BYTES_MAX => {
                Err(format!("`{shown}` is longer than {}", size_text(ENV_FILE_BYTES_MAX)))
            }
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| format!("`{shown}` is no text (UTF-8)")),
        };
        let text = match text {
            Ok(text) => text,
            Err(why) => {
                self.findings.report(Code::EnvFile, &at.span, why).label("named here");
                return Vec::new();
            }
        };
        let (variables, faults) = parse_env_file(&text);
        for (line, why) in faults.iter().take(ENV_FILE_FAULTS_MAX) {
            self.findings
                .report(Code::EnvFile, &at.span, format!("{shown}:{line}: the line {why}"))
                .label("named here")
                .help("each line is KEY=VALUE, empty, or a # comment");
        }
        variables
    }

    /// Checks the user; answers name and home if it is another one than we are.
    fn user(&mut self, at: &At<AccountText>) -> Option<(String, PathBuf)> {
        let Some(user) = self.environment.user(&at.value.0) else {
            self.unknown_account(at, "user");
            return None;
        };
        let us = self.environment.user_id();
        if user.id == us {
            return None;
        }
        self.needs_root(at, "user");
        Some((user.name, user.home))
    }

    fn group(&mut self, at: &At<AccountText>) {
        if self.environment.group(&at.value.0).is_none() {
            self.unknown_account(at, "group");
        } else {
            self.needs_root(at, "group");
        }
    }

    fn unknown_account(&mut self, at: &At<AccountText>, what: &str) {
        if !self.findings.has(Code::UnknownAccount, &at.span) {
            self.findings
                .report(
                    Code::UnknownAccount,
                    &at.span,
                    format!("there is no {what} `{}` on this machine", at.value.0),
                )
                .label("unknown here")
                .help(format!("make it, or leave `{what}` out"));
        }
    }

    fn needs_root(&mut self, at: &At<AccountText>, what: &str) {
        let us = self.environment.user_id();
        if us != 0 && !self.findings.has(Code::NeedsRoot, &at.span) {
            self.findings
                .report(Code::NeedsRoot, &at.span, format!("only root may start a program as another {what}"))
                .label(format!("Horus runs as user {us}"))
                .help(format!("leave `{what}` out, or run Horus as root"));
        }
    }

    fn limits(&mut self, subject: &Subject<'_>) -> Limits {
        let (own, shared) = (subject.raw.limits.as_ref(), subject.defaults.limits.as_ref());
        let address_space = self.address_space(subject);
        let core = own.and_then(|l| l.core.as_ref()).or(shared.and_then(|l| l.core.as_ref()));
        let open_files =
            own.and_then(|l| l.open_files.as_ref()).or(shared.and_then(|l| l.open_files.as_ref()));
        let processes = own.and_then(|l| l.processes.as_ref()).or(shared.and_then(|l| l.processes.as_ref()));
        let memory_bytes = address_space.and_then(|(at, key)| {
            let bytes = self.size(at, key)?;
            let fine = bytes >= MEMORY_MIN;
            self.limit(fine, at, format!("no program runs in less than {} of memory", size_text(MEMORY_MIN)));
            Some(bytes)
        });
        if let Some(at) = open_files {
            let message = format!("no program runs with fewer than {OPEN_FILES_MIN} open files");
            self.limit(at.value >= OPEN_FILES_MIN, at, message);
        }
        if let Some(at) = processes {
            self.limit(at.value > 0, at, "with no process allowed nothing can be started".to_owned());
        }
        Limits {
            memory_bytes,
            open_files: open_files.map(|at| at.value),
            processes: processes.map(|at| at.value),
            core_bytes: core.and_then(|at| self.size(at, "core")),
        }
    }

    /// The limit on address space and the key that it stands under: a service's own comes before a shared one.
    fn address_space<'r>(&mut self, subject: &Subject<'r>) -> Option<(&'r At<SizeText>, &'static str)> {
        let tables = [subject.raw.limits.as_ref(), subject.defaults.limits.as_ref()];
        let limits =
            tables.into_iter().flatten().find(|l| l.address_space.is_some() || l.memory.is_some())?;
        if let (Some(at), Some(old)) = (&limits.address_space, &limits.memory) {
            if !self.findings.has(Code::Contradiction, &old.span) {
                let message = "`memory` and `address_space` limit the same thing";
                let fault = self.findings.report(Code::Contradiction, &old.span, message);
                fault.label("the older name").also(&at.span, "the other one").help("take `memory` out");
            }
            return Some((at, "address_space"));
        }
        let Some(old) = &limits.memory else {
            return limits.address_space.as_ref().map(|at| (at, "address_space"));
        };
        if !self.findings.has(Code::MemoryIsAddressSpace, &old.span) {
            let message =
                "`limits.memory` limits the address space of each process, not the memory that it uses";
            self.findings
                .report(Code::MemoryIsAddressSpace, &old.span, message)
                .label("what is only reserved counts as well")
                .help("write `address_space`, if that is meant, or `tree = { memory = \"...\" }` to limit what the whole tree uses");
        }
        Some((old, "memory"))
    }

    pub(super) fn limit<T>(&mut self, fine: bool, at: &At<T>, message: String) {
        if !fine && !self.findings.has(Code::BadLimit, &at.span) {
            self.findings.report(Code::BadLimit, &at.span, message).label("too small");
        }
    }

    pub(super) fn size(&mut self, at: &At<SizeText>, key: &str) -> Option<u64> {
        parse_size(&at.value.0)
            .inspect_err(|why| {
                if !self.findings.has(Code::BadSize, &at.span) {
                    self.findings
                        .report(Code::BadSize, &at.span, format!("`{key}` {why}"))
                        .label("not a size to work with")
                        .help("sizes are whole numbers: \"64MiB\", \"2GiB\", \"10kB\" or bytes, \"512\"");
                }
            })
            .ok()
    }

    fn log(&mut self, subject: &Subject<'_>) -> LogPlan {
        let (own, shared) = (subject.raw.log.as_ref(), subject.defaults.log.as_ref());
        let mut plan = defaults::log();
        if let Some(at) = own.and_then(|l| l.max_size.as_ref()).or(shared.and_then(|l| l.max_size.as_ref()))
            && let Some(bytes) = self.size(at, "max_size")
        {
            let bounds = (size_text(LOG_SIZE_MIN), size_text(LOG_SIZE_MAX));
            let fine = (LOG_SIZE_MIN..=LOG_SIZE_MAX).contains(&bytes);
            self.number(fine, at, format!("`max_size` is between {} and {}", bounds.0, bounds.1));
            plan.max_bytes = bytes;
        }
        if let Some(at) = own.and_then(|l| l.keep.as_ref()).or(shared.and_then(|l| l.keep.as_ref())) {
            self.number(at.value <= LOG_KEEP_MAX, at, format!("`keep` is at most {LOG_KEEP_MAX}"));
            plan.keep = at.value;
        }
        plan
    }

    /// A number that has to be within bounds; told once for each place.
    pub(super) fn number<T>(&mut self, fine: bool, at: &At<T>, message: String) {
        if !fine && !self.findings.has(Code::BadNumber, &at.span) {
            self.findings.report(Code::BadNumber, &at.span, message).label("out of bounds");
        }
    }

    /// Texts of a list, each of them a word.
    pub(super) fn words(&mut self, list: &At<Vec<At<Text>>>, key: &str) -> Vec<At<String>> {
        let words = list
            .value
            .iter()
            .filter_map(|at| self.text(at, key).map(|value| At { value, span: at.span.clone() }));
        words.collect()
    }
}
