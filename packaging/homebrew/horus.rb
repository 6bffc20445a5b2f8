# Homebrew formula. `cargo xtask package` fills in VERSION and SHA256.
class Horus < Formula
  desc "Self-healing watchdog supervisor"
  homepage "https://github.com/horus-watchdog/horus"
  url "https://github.com/horus-watchdog/horus/releases/download/vVERSION/horus-VERSION-source.tar.gz"
  sha256 "SHA256"
  license any_of: ["MIT", "Apache-2.0"]

  depends_on "rust" => :build

  def install
    system "cargo", "install", *std_cargo_args(path: "crates/horus")
    generate_completions_from_executable(bin/"horus", "completions")
    system bin/"horus", "manual", man1
  end

  # No `service do` block: what brew writes lets launchd and systemd kill the supervised programs together with Horus.
  def caveats
    <<~EOS
      To run Horus while you are logged in:
        mkdir -p ~/.config/horus && horus init ~/.config/horus/watchdog.toml
        horus install --user

      A daemon of the machine runs as root and must not be a file that you may write:
        sudo install -m 755 #{opt_bin}/horus /usr/local/bin/horus
        sudo /usr/local/bin/horus install --system
    EOS
  end

  test do
    system bin/"horus", "init", "watchdog.toml"
    system bin/"horus", "check", "watchdog.toml"
  end
end
