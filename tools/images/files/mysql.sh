#!/bin/sh
# Start mysqld as the official image does: an empty volume gets its database and its users.
set -eu
case ${1:--} in
  -*) ;;
  mysqld) shift ;;
  *) exec "$@" ;;
esac
data=/var/lib/mysql
install -d -o mysql -g mysql "$data" /run/mysqld
if [ ! -d "$data/mysql" ]; then
  mysqld --no-defaults --user=mysql --datadir="$data" --secure-file-priv=NULL --initialize-insecure
fi
init=/run/mysqld/init.sql
install -m 600 -o mysql -g mysql /dev/null "$init"
# One statement per line, as the server requires; each is repeatable.
if [ -n "${MYSQL_ROOT_PASSWORD:-}" ]; then
  echo "CREATE USER IF NOT EXISTS root@'%';" >> "$init"
  echo "ALTER USER root@'%' IDENTIFIED BY '$MYSQL_ROOT_PASSWORD';" >> "$init"
  echo "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;" >> "$init"
fi
if [ -n "${MYSQL_DATABASE:-}" ]; then
  echo "CREATE DATABASE IF NOT EXISTS $MYSQL_DATABASE;" >> "$init"
fi
if [ -n "${MYSQL_USER:-}" ]; then
  echo "CREATE USER IF NOT EXISTS $MYSQL_USER@'%' IDENTIFIED BY '$MYSQL_PASSWORD';" >> "$init"
  echo "GRANT ALL ON $MYSQL_DATABASE.* TO $MYSQL_USER@'%';" >> "$init"
fi
exec mysqld --no-defaults --user=mysql --datadir="$data" --secure-file-priv=NULL \
  --skip-name-resolve --mysqlx=OFF --init-file="$init" "$@"
