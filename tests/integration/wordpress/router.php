<?php
// What Apache does for WordPress: files with their validators, and every other address to index.php.
// Each request becomes a line of the log before it is answered.
$method = $_SERVER['REQUEST_METHOD'];
file_put_contents(getenv('WORDPRESS_LOG'), "$method {$_SERVER['REQUEST_URI']}\n", FILE_APPEND | LOCK_EX);

$root = $_SERVER['DOCUMENT_ROOT'];
$file = realpath($root . rawurldecode((string) parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)));
$uploads = realpath("$root/wp-content/uploads") . '/';

if ($file && is_file($file) && str_starts_with($file, $uploads)) {
    $etag = '"' . md5_file($file) . '"';
    $changed = filemtime($file);
    header('Content-Type: ' . mime_content_type($file));
    header("ETag: $etag");
    header('Last-Modified: ' . gmdate('D, d M Y H:i:s', $changed) . ' GMT');
    $known = $_SERVER['HTTP_IF_NONE_MATCH'] ?? null;
    $since = strtotime($_SERVER['HTTP_IF_MODIFIED_SINCE'] ?? '');
    if ($known !== null ? $known === $etag : $since !== false && $since >= $changed) {
        http_response_code(304);
        return true;
    }
    header('Content-Length: ' . filesize($file));
    if ($method !== 'HEAD') {
        readfile($file);
    }
    return true;
}
if ($file && (is_file($file) || is_file("$file/index.php"))) {
    return false;
}
$_SERVER['SCRIPT_NAME'] = $_SERVER['PHP_SELF'] = '/index.php';
$_SERVER['SCRIPT_FILENAME'] = "$root/index.php";
chdir($root);
require "$root/index.php";
