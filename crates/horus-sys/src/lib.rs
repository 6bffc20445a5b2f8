//! Everything Horus asks of the operating system; the only unsafe code
