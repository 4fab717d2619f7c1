"""What ``export`` writes: a tuned kernel as a library, with programs that run it, as scripts and as a database."""
