# Prints the sources that apt would install from without a valid signature, and the settings that let it.
grep --recursive --with-filename --no-messages --ignore-case --extended-regexp \
    '(^|[[[:space:]])(trusted|allow-(insecure|weak|downgrade-to-insecure))[[:space:]]*[=:][[:space:]]*(1|yes|true|on|enable|with)' /etc/apt/sources.list /etc/apt/sources.list.d
apt-get indextargets --format '$(SOURCESENTRY) $(SITE) trusted: $(TRUSTED)' 'Created-By: Packages' | grep --invert-match 'trusted: yes$'
apt-config dump --format '%f=%v%n' APT::Get::AllowUnauthenticated Acquire::AllowInsecureRepositories Acquire::AllowWeakRepositories |
    grep --ignore-case --extended-regexp '=(1|yes|true|on|enable|with)$'
true
