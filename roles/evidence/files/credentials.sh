# Prints the credentials that are in clear, or encrypted by systemd's null key, and whether there are any at all.
shopt -s nullglob
all=(/etc/litellm/credentials/*) bad=()
for file in "${all[@]}"; do
    key=$(base64 --decode < "$file" 2>/dev/null | head --bytes=16 | od --address-radix=n --format=x1 | tr --delete ' \n')
    if [ "$key" = 058469daf6f54324800549da0f8ea2fb ] || ! systemd-creds decrypt "$file" /dev/null 2>/dev/null; then
        bad+=("${file##*/}")
    fi
done
echo "${bad[*]:-none} of $([ ${#all[@]} -gt 0 ] && echo some || echo none)"
